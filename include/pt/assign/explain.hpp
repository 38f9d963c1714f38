// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/finding.hpp"
#include "pt/assign/ownership.hpp"
#include "pt/paging/audit.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/interrupt_entry.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::assign {

/// One line of text, without an end of line. What does not fit is cut off.
class explanation {
public:
    static constexpr std::size_t capacity = 239; ///< characters; no finding needs as many

    [[nodiscard]] constexpr const char* begin() const { return characters_; }
    [[nodiscard]] constexpr const char* end() const { return characters_ + size_; }
    [[nodiscard]] constexpr std::size_t size() const { return size_; }
    [[nodiscard]] constexpr const char* c_str() const { return characters_; }

    constexpr explanation& operator<<(const char* text) {
        for (; *text != '\0'; ++text) {
            put(*text);
        }
        return *this;
    }
    constexpr explanation& decimal(std::uint64_t number) { return digits(number, 10); }
    /// With 0x before it, in lower case, without zeros in front.
    constexpr explanation& hex(std::uint64_t number) {
        *this << "0x";
        return digits(number, 16);
    }
    /// Both ends, or the one number that both are.
    constexpr explanation& hex_range(std::uint64_t first, std::uint64_t last) {
        hex(first);
        return first == last ? *this : (*this << "..").hex(last);
    }
    /// As 00:05.0, with the segment before it unless that is 0.
    constexpr explanation& function(pci::function_address address) {
        address.device &= 31;
        address.function &= 7;
        const pci::function_address_text text = address.text();
        return *this << text.data() + (address.segment == 0 ? 5 : 0);
    }

private:
    constexpr void put(char character) {
        if (size_ != capacity) {
            characters_[size_++] = character; // the last one stays null
        }
    }
    constexpr explanation& digits(std::uint64_t number, unsigned base) {
        char reversed[20]{};
        unsigned count = 0;
        do {
            reversed[count++] = "0123456789abcdef"[number % base];
            number /= base;
        } while (number != 0);
        while (count != 0) {
            put(reversed[--count]);
        }
        return *this;
    }

    char characters_[capacity + 1]{};
    std::size_t size_ = 0;
};

/// How the explanations name tables.
[[nodiscard]] constexpr const char* words_for(table_kind kind) {
    switch (kind) {
    case table_kind::ept: return "EPT";
    case table_kind::nested_paging: return "nested paging";
    case table_kind::second_stage: return "the second stage";
    case table_kind::first_stage: return "the first stage";
    }
    return "a table";
}
[[nodiscard]] constexpr const char* words_for(page_use use) {
    switch (use) {
    case page_use::memory: return "memory";
    case page_use::registers: return "registers";
    case page_use::trapped_registers: return "trapped registers";
    case page_use::local_apic: return "the local APIC";
    case page_use::emulated: return "an emulated device";
    case page_use::reserved_region: return "reserved for a device by firmware";
    }
    return "something else";
}
[[nodiscard]] constexpr const char* words_for(owned_resource what) {
    switch (what) {
    case owned_resource::pages: return "pages";
    case owned_resource::ports: return "ports";
    case owned_resource::functions: return "functions";
    case owned_resource::domain_ids: return "domain ids";
    case owned_resource::table_roots: return "roots of tables";
    case owned_resource::interrupt_entry: return "interrupt entries";
    case owned_resource::host_vector: return "host vectors";
    case owned_resource::descriptors: return "posted-interrupt descriptors";
    }
    return "something";
}
[[nodiscard]] constexpr const char* words_for(vtd::interrupt_delivery mode) {
    switch (mode) {
    case vtd::interrupt_delivery::fixed:
    case vtd::interrupt_delivery::lowest_priority: break;
    case vtd::interrupt_delivery::smi: return "an SMI";
    case vtd::interrupt_delivery::nmi: return "an NMI";
    case vtd::interrupt_delivery::init: return "INIT";
    case vtd::interrupt_delivery::ext_int: return "an ExtINT interrupt";
    }
    return "a vector";
}

/// Writes what one finding says; the function below is the way to it.
class finding_words {
public:
    explicit constexpr finding_words(const finding& of) : of_{of} {}

    [[nodiscard]] constexpr explanation text() {
        using enum finding_kind;
        owner(of_.guest) << ": ";
        switch (of_.kind) {
        case disordered_list:
            out_ << "the list of its " << words_for(of_.what) << " is not in order at number ";
            out_.decimal(of_.first);
            break;
        case malformed_tables:
            tables() << " cannot be walked at ";
            input() << ": " << name(of_.tables);
            if (of_.defect != paging::entry_defect::none) {
                out_ << " (" << name(of_.defect) << ")";
            }
            (out_ << ", table ").hex(of_.host);
            break;
        case page_not_owned:
            mapping();
            out_ << ", which the guest does not own";
            break;
        case page_elsewhere:
            mapping();
            (out_ << "; the guest's is hpa ").hex(of_.expected);
            break;
        case page_missing:
            input() << " is the guest's (hpa ";
            out_.hex(of_.expected) << "), and ";
            tables() << " does not map it";
            break;
        case page_trapped:
            mapping();
            out_ << ", where each access must exit: " << words_for(of_.use);
            break;
        case page_excess_rights:
            tables() << " allows to ";
            rights();
            out_ << " at ";
            input() << ", which the guest must not";
            break;
        case page_lacking_rights:
            tables() << " does not allow to ";
            rights();
            out_ << " at ";
            input() << ", which the guest may";
            break;
        case page_processors_only:
            tables() << " lets devices reach ";
            input() << " -> ";
            host() << ", which is for processors alone";
            break;
        case registers_cached:
            mapping();
            out_ << ", a function's registers, as memory that caches keep";
            break;
        case interrupt_range_mapped:
            mapping();
            out_ << ": the interrupt range is never mapped";
            break;
        case table_frame_reachable:
            mapping();
            out_ << ", which is the VMM's own: tables, or what else it keeps to itself";
            break;
        case port_not_owned: ports("open and not the guest's"); break;
        case port_not_forwarded:
            ports("open, but the guest's is to be forwarded to ");
            out_.hex(of_.expected);
            break;
        case port_closed: ports("the guest's, and closed"); break;
        case config_port_open: ports("open: every function's configuration space"); break;
        case port_wrap_open:
            out_ << "an access that runs past port 0xffff is not intercepted";
            break;
        case function_unreadable:
            functions() << ": the table at hpa ";
            out_.hex(of_.host) << " decides, and cannot be read: " << name(of_.tables);
            break;
        case function_malformed:
            functions() << " has an entry of a reserved translation type";
            break;
        case function_missing: functions() << " is the guest's, and blocked: no entry"; break;
        case function_pass_through:
            functions() << " is the guest's, and passes through to all of host memory";
            break;
        case function_elsewhere:
            functions() << " is the guest's, and put through the tables at hpa ";
            (out_.hex(of_.host) << "; the guest's are at hpa ").hex(of_.expected);
            break;
        case function_wrong_levels:
            functions() << ": the guest's tables are walked with ";
            (out_.decimal(of_.found) << " levels, and have ").decimal(of_.expected);
            break;
        case function_wrong_domain:
            functions() << " has domain id ";
            (out_.decimal(of_.found) << "; the guest's is ").decimal(of_.expected);
            break;
        case function_device_tlb:
            functions() << " may send translated requests, which nothing checks (ATS)";
            break;
        case function_not_owned:
            functions() << " is put through the guest's tables (hpa ";
            out_.hex(of_.host) << "), and is not the guest's";
            break;
        case domain_id_shared:
            functions() << " has the guest's domain id ";
            (out_.decimal(of_.found) << ", with other tables: hpa ").hex(of_.host);
            break;
        case vector_missing: entries() << " is the guest's, and not present"; break;
        case vector_malformed: entries() << " is the guest's, and refused by the hardware"; break;
        case vector_elsewhere:
            entries() << " leads to ";
            target(of_.to);
            out_ << "; the guest's is ";
            target(of_.expected_to);
            break;
        case vector_wrong_source:
            entries() << " serves source id ";
            (out_.hex(of_.found) << " as it qualifies it; the guest's is for ").hex(of_.expected);
            break;
        case vector_any_source:
            entries() << " serves any source, so that every device can raise ";
            target(of_.to);
            break;
        case vector_posted:
            entries() << " lets function ";
            out_.function(of_.function) << " post vector ";
            out_.hex(of_.to.vector) << " into the descriptor at hpa ";
            out_.hex(of_.host) << ", which is not the guest's";
            break;
        case vector_not_owned:
            entries() << " lets function ";
            out_.function(of_.function) << " raise ";
            target(of_.to);
            out_ << ", which is not the guest's";
            break;
        case dma_not_isolated:
            out_ << "function ";
            out_.function(of_.function)
                << " and whatever else it has reach all of host memory: nothing translates";
            break;
        case interrupts_not_isolated:
            out_ << "function ";
            out_.function(of_.function)
                << " and whatever else it has can raise any host vector: nothing remaps";
            break;
        case shared: shared_numbers(); break;
        }
        return out_;
    }

private:
    constexpr explanation& owner(std::uint16_t guest) {
        return guest == ownership::host ? out_ << "the host" : (out_ << "guest ").decimal(guest);
    }
    constexpr explanation& tables() { return out_ << words_for(of_.stage); }
    constexpr explanation& input() {
        const bool processor =
            of_.stage == table_kind::ept || of_.stage == table_kind::nested_paging;
        return (out_ << (processor ? "gpa " : "iova ")).hex_range(of_.first, of_.last);
    }
    constexpr explanation& host() {
        (out_ << "hpa ").hex(of_.host);
        return of_.scattered ? out_ << " and other places" : out_;
    }
    constexpr void mapping() {
        tables() << " maps ";
        input() << " to ";
        host();
    }
    constexpr void rights() {
        const char* separator = "";
        const auto right = [&](bool has, const char* word) {
            if (has) {
                out_ << separator << word;
                separator = " and ";
            }
        };
        right(of_.rights.read, "read");
        right(of_.rights.write, "write");
        right(of_.rights.execute, "execute");
    }
    constexpr void ports(const char* how) {
        const bool one = of_.first == of_.last;
        (out_ << (one ? "port " : "ports ")).hex_range(of_.first, of_.last)
            << (one ? " is " : " are ") << how;
    }
    constexpr explanation& functions() {
        if (of_.first == of_.last) {
            (out_ << "function ").function(of_.function);
            return of_.pasid == finding::no_pasid ? out_ : (out_ << " with PASID ").hex(of_.pasid);
        }
        const auto last = pci::function_address::from_source_id(
            static_cast<std::uint16_t>(of_.last), of_.function.segment);
        return (out_ << "each of the functions ").function(of_.function)
               << ".." << explanation{}.function(last).c_str();
    }
    constexpr explanation& entries() {
        const bool one = of_.first == of_.last;
        out_ << (one ? "interrupt entry " : "each of the interrupt entries ");
        out_.decimal(of_.first);
        return one ? out_ : (out_ << "..").decimal(of_.last);
    }
    constexpr void target(const vector_target& to) {
        if (to.delivery_mode == vtd::interrupt_delivery::fixed ||
            to.delivery_mode == vtd::interrupt_delivery::lowest_priority) {
            (out_ << "vector ").hex(to.vector);
        } else {
            out_ << words_for(to.delivery_mode);
        }
        (out_ << " at APIC ").hex(to.destination_id);
    }
    constexpr void shared_numbers() {
        out_ << "shares with ";
        owner(of_.other) << ": ";
        switch (of_.what) {
        case owned_resource::pages:
            (out_ << "host memory, hpa ").hex_range(of_.first, of_.last);
            return;
        case owned_resource::ports: (out_ << "host ports ").hex_range(of_.first, of_.last); return;
        case owned_resource::functions:
            (out_ << "function ")
                .function(pci::function_address::from_source_id(
                    static_cast<std::uint16_t>(of_.first),
                    static_cast<std::uint16_t>(of_.first >> 16)));
            return;
        case owned_resource::domain_ids:
            (out_ << "domain id ").decimal(of_.first & 0xFFFF);
            unit();
            return;
        case owned_resource::table_roots: (out_ << "the tables at hpa ").hex(of_.first); return;
        case owned_resource::interrupt_entry:
            (out_ << "interrupt entry ").decimal(of_.first & 0xFFFF);
            unit();
            return;
        case owned_resource::host_vector:
            (out_ << "host vector ").hex(of_.first & 0xFF);
            (out_ << " at APIC ").hex(of_.first >> 8);
            return;
        case owned_resource::descriptors:
            (out_ << "the posted-interrupt descriptor at hpa ").hex(of_.first);
            return;
        }
    }
    constexpr void unit() { (out_ << " of unit ").decimal(of_.first >> 16); }

    const finding& of_;
    explanation out_{};
};

/// The finding in one line, e.g. "guest 1: EPT maps gpa 0x200000..0x3fffff to hpa 0x8000000, which
/// the guest does not own". Addresses are inclusive, and hexadecimal.
[[nodiscard]] constexpr explanation explain(const finding& found) {
    return finding_words{found}.text();
}

} // namespace pt::assign
