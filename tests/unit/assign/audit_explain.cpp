// SPDX-License-Identifier: BSL-1.0
// What explain() says: each kind in one line that names the guest, the thing and where it is.
#include "pt/assign/explain.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

namespace {

using namespace pt::assign;
using enum finding_kind;

constexpr bool says(const finding& found, std::string_view expected) {
    const explanation text = explain(found);
    return std::string_view{text.c_str()} == expected &&
           std::string_view{text.begin(), text.size()} == expected &&
           text.begin() + text.size() == text.end();
}

constexpr finding page(finding_kind kind, table_kind stage = table_kind::ept) {
    return {.kind = kind,
            .stage = stage,
            .guest = 1,
            .first = 0x20'0000,
            .last = 0x3F'FFFF,
            .host = 0x800'0000,
            .expected = 0x900'0000};
}

constexpr bool pages() {
    finding defect = page(malformed_tables, table_kind::nested_paging);
    defect.tables = pt::paging::finding_kind::refused_entry;
    defect.defect = pt::paging::entry_defect::reserved_bits;
    finding apic = page(page_trapped);
    apic.use = page_use::local_apic;
    finding excess = page(page_excess_rights, table_kind::second_stage);
    excess.rights = {false, true, true};
    finding scattered = page(page_not_owned, table_kind::first_stage);
    scattered.scattered = true;
    return says(page(page_not_owned), "guest 1: EPT maps gpa 0x200000..0x3fffff to hpa 0x8000000, "
                                      "which the guest does not own") &&
           says(scattered, "guest 1: the first stage maps iova 0x200000..0x3fffff to hpa 0x8000000 "
                           "and other places, which the guest does not own") &&
           says(page(page_elsewhere), "guest 1: EPT maps gpa 0x200000..0x3fffff to hpa 0x8000000; "
                                      "the guest's is hpa 0x9000000") &&
           says(page(page_missing), "guest 1: gpa 0x200000..0x3fffff is the guest's (hpa "
                                    "0x9000000), and EPT does not map it") &&
           says(apic, "guest 1: EPT maps gpa 0x200000..0x3fffff to hpa 0x8000000, where each "
                      "access must exit: the local APIC") &&
           says(excess, "guest 1: the second stage allows to write and execute at iova "
                        "0x200000..0x3fffff, which the guest must not") &&
           says(page(page_processors_only, table_kind::second_stage),
                "guest 1: the second stage lets devices reach iova 0x200000..0x3fffff -> hpa "
                "0x8000000, which is for processors alone") &&
           says(defect, "guest 1: nested paging cannot be walked at gpa 0x200000..0x3fffff: "
                        "refused_entry (reserved_bits), table 0x8000000");
}
constexpr bool ports_and_vectors() {
    const finding port{.kind = port_not_owned, .guest = 1, .first = 0x3F8, .last = 0x3F8};
    const finding moved{.kind = port_not_forwarded,
                        .guest = 2,
                        .first = 0xC000,
                        .last = 0xC01F,
                        .expected = 0xD000};
    const finding stray{.kind = vector_not_owned,
                        .guest = ownership::host,
                        .first = 5,
                        .last = 5,
                        .function = {0, 0, 5, 0},
                        .to = {0x41, 0, pt::vtd::interrupt_delivery::fixed}};
    const finding nmi{.kind = vector_elsewhere,
                      .guest = 1,
                      .first = 5,
                      .last = 5,
                      .to = {0, 3, pt::vtd::interrupt_delivery::nmi},
                      .expected_to = {0x41, 3, pt::vtd::interrupt_delivery::fixed}};
    return says(port, "guest 1: port 0x3f8 is open and not the guest's") &&
           says(moved, "guest 2: ports 0xc000..0xc01f are open, but the guest's is to be forwarded "
                       "to 0xd000") &&
           says(stray,
                "the host: interrupt entry 5 lets function 00:05.0 raise vector 0x41 at APIC "
                "0x0, which is not the guest's") &&
           says(nmi, "guest 1: interrupt entry 5 leads to an NMI at APIC 0x3; the guest's is "
                     "vector 0x41 at APIC 0x3");
}
constexpr bool functions_and_guests() {
    const finding elsewhere{.kind = function_elsewhere,
                            .guest = 1,
                            .first = 0x28,
                            .last = 0x28,
                            .host = 0x7000,
                            .expected = 0x5000,
                            .function = {2, 0, 5, 0},
                            .pasid = 7};
    const finding many{.kind = function_missing,
                       .guest = 1,
                       .first = 0x28,
                       .last = 0x2A,
                       .function = {0, 0, 5, 0}};
    const finding page_of_two{.kind = shared,
                              .what = owned_resource::pages,
                              .guest = 1,
                              .other = 2,
                              .first = 0x1000,
                              .last = 0x1FFF};
    const finding vector_of_two{.kind = shared,
                                .what = owned_resource::host_vector,
                                .guest = 1,
                                .other = ownership::host,
                                .first = 0x241,
                                .last = 0x241};
    return says(elsewhere, "guest 1: function 0002:00:05.0 with PASID 0x7 is the guest's, and put "
                           "through the tables at hpa 0x7000; the guest's are at hpa 0x5000") &&
           says(many, "guest 1: each of the functions 00:05.0..00:05.2 is the guest's, and "
                      "blocked: no entry") &&
           says(page_of_two, "guest 1: shares with guest 2: host memory, hpa 0x1000..0x1fff") &&
           says(vector_of_two, "guest 1: shares with the host: host vector 0x41 at APIC 0x2");
}
static_assert(pages() && ports_and_vectors() && functions_and_guests());

TEST_CASE("a finding is explained in one line", "[assign][audit]") {
    REQUIRE(pages());
    REQUIRE(ports_and_vectors());
    REQUIRE(functions_and_guests());
}

TEST_CASE("every kind has an explanation of its own, and none is cut off", "[assign][audit]") {
    std::set<std::string> texts;
    std::set<std::string> names;
    for (unsigned kind = 0; kind <= static_cast<unsigned>(shared); ++kind) {
        // The longest numbers that there are.
        finding worst{.kind = static_cast<finding_kind>(kind),
                      .stage = table_kind::second_stage,
                      .what = owned_resource::descriptors,
                      .guest = 65534,
                      .other = 65534,
                      .first = 1,
                      .last = ~std::uint64_t{0},
                      .host = ~std::uint64_t{0},
                      .expected = ~std::uint64_t{0},
                      .found = ~std::uint64_t{0},
                      .scattered = true,
                      .rights = {true, true, true},
                      .use = page_use::emulated,
                      .tables = pt::paging::finding_kind::beyond_input_width,
                      .defect = pt::paging::entry_defect::write_without_read,
                      .function = {0xFFFF, 0xFF, 0xFF, 0xFF}, // no bus carries it
                      .pasid = 0xF'FFFF,
                      .to = {0xFF, 0xFFFF'FFFF, pt::vtd::interrupt_delivery::ext_int},
                      .expected_to = {0xFF, 0xFFFF'FFFF, pt::vtd::interrupt_delivery::ext_int}};
        for (const std::uint64_t first : {std::uint64_t{1}, worst.last}) {
            worst.first = first;
            const std::string text{explain(worst).c_str()};
            INFO(text);
            REQUIRE(text.size() > 20);
            REQUIRE(text.size() < explanation::capacity);
            REQUIRE(text.find('\n') == std::string::npos);
            REQUIRE(text.find("something") == std::string::npos);
            texts.insert(text);
        }
        REQUIRE(texts.size() >= kind + 1); // a new one at least
        REQUIRE(names.insert(name(worst.kind)).second);
    }
    REQUIRE(names.count("unknown") == 0);
}

TEST_CASE("numbers that no enumeration has are explained too", "[assign][audit]") {
    for (unsigned number = 0; number != 256; ++number) {
        const finding odd{.kind = static_cast<finding_kind>(number),
                          .stage = static_cast<table_kind>(number),
                          .what = static_cast<owned_resource>(number),
                          .use = static_cast<page_use>(number),
                          .tables = static_cast<pt::paging::finding_kind>(number),
                          .defect = static_cast<pt::paging::entry_defect>(number),
                          .to = {0, 0, static_cast<pt::vtd::interrupt_delivery>(number)}};
        REQUIRE(explain(odd).size() != 0);
    }
}

} // namespace
