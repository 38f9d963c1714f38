// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "guest_pc.hpp"
#include "log.hpp"
#include "static_vector.hpp"

#include "pt/assign/audit.hpp"
#include "pt/assign/explain.hpp"
#include "pt/assign/finding.hpp"
#include "pt/assign/ownership.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/memory/direct_map.hpp"
#include "pt/paging/frame_set.hpp"
#include "pt/paging/table_reader.hpp"
#include "pt/pci/function_address.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm {

/// When the audit takes place, besides at the end of the run.
enum class audit_time : std::uint8_t { each_step, never };

/// The frames of the VMM itself, as a frame_set: no table of a guest may lead to them.
struct own_frames {
    pt::range<pt::hpa> memory{};

    constexpr pt::paging::insertion insert(pt::hpa) { return pt::paging::insertion::outside; }
    [[nodiscard]] constexpr bool overlaps(pt::range<pt::hpa> bytes) const {
        return bytes.overlaps(memory);
    }
};
static_assert(pt::paging::frame_set<own_frames>);

/// What one audit of all guests works with.
struct audit_means {
    /// How tables are read, and where they may lie at all: where the VMM's frames come from.
    pt::paging::direct_map_reader<pt::identity_map> reader;
    /// Frames that were met as tables, of whichever guest.
    pt::paging::frame_bitmap seen;
    own_frames own;
    pt::range<pt::hpa> tables;
    std::uint64_t* words; ///< of another set, as large

    /// An empty set, until the next call.
    [[nodiscard]] pt::paging::frame_bitmap fresh() const {
        const std::uint64_t count = pt::paging::frame_bitmap::words_for(tables);
        for (std::uint64_t i = 0; i != count; ++i) {
            words[i] = 0;
        }
        return {tables, words, count};
    }
};

/// What is audited on a machine without remapping units: nothing stands between the functions and the
/// host's memory, and the log says so once.
struct no_units {
    [[nodiscard]] std::uint16_t unit_of(pt::pci::function_address) const { return 0; }
    /// Adds to what the guest owns what it has of the units.
    void complete(unsigned, pt::assign::ownership&) {}
    /// Of one guest: its functions, their tables, their interrupts.
    template <class Report>
    pt::assign::audit_summary audit(unsigned, const pt::assign::ownership& owned,
                                    const audit_means&, Report&) {
        if (!was_told && owned.functions.size() != 0) {
            was_told = true;
            static_cast<void>(pt::assign::audit_confinement(owned, [](const auto& found) {
                say("as this machine is: ", pt::assign::explain(found).c_str());
            }));
        }
        return {};
    }
    bool was_told = false;
};

/// The isolation audit of all guests: that each of them, and its functions, reach what it owns and
/// nothing else. Each finding is a line of the log. `Units` is the part that concerns remapping units,
/// as no_units has it; `Most`: of guests.
template <class V, class Units, std::size_t Most>
class auditor {
public:
    /// `tables`: where the VMM's frames come from, at most 64 MiB; `own`: all that is the VMM's, those
    /// included.
    auditor(audit_time when, static_vector<guest_pc<V>, Most>& guests, pt::range<pt::hpa> tables,
            pt::range<pt::hpa> own, Units units)
        : when_{when}, guests_{guests}, tables_{tables}, own_{own}, units_{units} {}
    auditor(const auditor&) = delete;
    auditor& operator=(const auditor&) = delete;

    /// If something has changed since the last audit, another one takes place. False: it found
    /// something.
    bool after_step() {
        if (when_ == audit_time::never) {
            return true;
        }
        for (std::size_t i = 0; i != guests_.count(); ++i) {
            if (guests_[i].events().has_changed) {
                return run();
            }
        }
        return true;
    }

    /// An audit. Whether it found nothing.
    bool run() {
        ++audits_;
        std::uint64_t lines = 0;
        auto tell = [&](const pt::assign::finding& found) {
            if (++lines <= most_lines) {
                say("audit: ", pt::assign::explain(found).c_str());
            }
        };
        for (std::uint64_t& each : seen_) {
            each = 0;
        }
        const audit_means means{.reader = {tables_, pt::identity_map{}},
                                .seen = {tables_, seen_},
                                .own = {own_},
                                .tables = tables_,
                                .words = fresh_};
        pt::assign::audit_summary all{};
        for (std::size_t i = 0; i != guests_.count(); ++i) {
            all += audit_guest(guests_[i], owned_[i], means, tell);
        }
        const auto shared = pt::assign::audit_sharing({owned_, guests_.count()}, room_,
                                                      sizeof room_ / sizeof room_[0], tell);
        demand(shared, "there is no room for what the guests own");
        all += *shared;
        if (lines > most_lines) {
            say("audit: ", decimal{lines - most_lines}, " more");
        }
        last_ = all;
        findings_ += all.findings;
        if (all.clean() && (audits_ < 10 || audits_ % 100 == 0)) {
            narrate("audit ", decimal{audits_},
                    ": each guest reaches what it owns, and nothing else");
        }
        return all.clean();
    }

    [[nodiscard]] std::uint64_t audits() const { return audits_; }
    [[nodiscard]] std::uint64_t findings() const { return findings_; }
    /// What the last one went through.
    [[nodiscard]] const pt::assign::audit_summary& last() const { return last_; }

private:
    static constexpr std::uint64_t most_lines = 20; ///< of the log, for the findings of one audit
    static constexpr std::size_t words =
        pt::paging::frame_bitmap::words_for({pt::hpa{0}, 64 * pt::MiB});

    template <class Report>
    pt::assign::audit_summary audit_guest(guest_pc<V>& of, pt::assign::ownership& owned,
                                          const audit_means& means, Report& tell) {
        of.events().has_changed = false;
        const auto lists = of.owned([&](pt::pci::function_address f) { return units_.unit_of(f); });
        demand(lists, "there is no room for what a guest owns");
        owned = *lists;
        units_.complete(of.number(), owned);
        const auto root = of.pages().root();
        demand(root, "a guest has no tables");
        auto all = pt::assign::audit_pages(of.pages().format(), means.reader, *root, means.seen,
                                           owned, tell);
        all += pt::assign::audit_table_frames(of.pages().format(), means.reader, *root,
                                              means.fresh(), means.own, owned.guest, tell);
        all += of.virtual_processor().audit_ports(owned, tell);
        all += units_.audit(of.number(), owned, means, tell);
        return all;
    }

    audit_time when_;
    static_vector<guest_pc<V>, Most>& guests_;
    pt::range<pt::hpa> tables_;
    pt::range<pt::hpa> own_;
    Units units_;
    pt::assign::ownership owned_[Most]{};
    pt::assign::claimed_numbers room_[Most * 64]{};
    std::uint64_t seen_[words]{};
    std::uint64_t fresh_[words]{};
    pt::assign::audit_summary last_{};
    std::uint64_t audits_ = 0;
    std::uint64_t findings_ = 0;
};

} // namespace vmm
