// SPDX-License-Identifier: BSL-1.0
#include "pt/core/contract.hpp"

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"

#include <catch2/catch_test_macros.hpp>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include <sys/wait.h>
#include <unistd.h>

namespace contract_test {

struct outcome {
    std::string what; ///< what the hook was told: "text|file|line"
    bool trapped = false;
    int status = -1; ///< of exit, if it did not trap
};

int hook_pipe = -1;

void tell(const pt::contract_violation& violation) {
    char line[512];
    const int n = std::snprintf(line, sizeof line, "%s|%s|%d", violation.what, violation.file,
                                violation.line);
    (void)!write(hook_pipe, line, static_cast<std::size_t>(n));
}
void tell_and_leave(const pt::contract_violation& violation) noexcept {
    tell(violation);
    _exit(3);
}
void tell_and_return(const pt::contract_violation& violation) noexcept { tell(violation); }

/// Runs `broken` in a child of its own, under `hook`.
template <class F>
outcome in_a_child(pt::contract_hook hook, F&& broken) {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        close(ends[0]);
        hook_pipe = ends[1];
        // The test program's own handlers would report a trap that is meant.
        for (const int number : {SIGILL, SIGTRAP, SIGABRT, SIGSEGV}) {
            std::signal(number, SIG_DFL);
        }
        pt::on_contract_violation = hook;
        broken();
        _exit(0);
    }
    close(ends[1]);
    outcome result;
    char buffer[512];
    for (ssize_t n = 0; (n = read(ends[0], buffer, sizeof buffer)) > 0;) {
        result.what.append(buffer, static_cast<std::size_t>(n));
    }
    close(ends[0]);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    result.trapped =
        WIFSIGNALED(status) && (WTERMSIG(status) == SIGILL || WTERMSIG(status) == SIGTRAP);
    result.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return result;
}

template <class F>
std::string said(F&& broken) {
    const outcome result = in_a_child(tell_and_leave, broken);
    CHECK(result.status == 3);
    return result.what.substr(0, result.what.find('|'));
}

// Values that the compiler cannot see through.
template <class T>
T opaque(T value) {
    volatile T hidden = value;
    return hidden;
}

struct entry : pt::reg<entry, std::uint64_t> {
    using reg::reg;
    static constexpr bits<51, 12, pt::hpa> frame{};
    static constexpr bits<2, 0, std::uint8_t> rights{};
    static constexpr pt::field_list fields{frame, rights};
};

TEST_CASE("the hook learns what was demanded and where", "[core]") {
    const int line = __LINE__ + 2;
    const outcome result =
        in_a_child(tell_and_leave, [] { pt::expects(opaque(false), "two and two are four"); });
    CHECK(result.status == 3);
    const std::string expected =
        std::string{"two and two are four|"} + __FILE__ + "|" + std::to_string(line);
    CHECK(result.what == expected);
}

TEST_CASE("a contract that holds says nothing", "[core]") {
    const outcome result =
        in_a_child(tell_and_leave, [] { pt::expects(opaque(true), "never said"); });
    CHECK(result.status == 0);
    CHECK(result.what.empty());
}

TEST_CASE("no hook, or one that returns, ends in a trap", "[core]") {
    const auto broken = [] { pt::expects(opaque(false), "broken"); };
    const outcome silent = in_a_child(nullptr, broken);
    CHECK(silent.trapped);
    CHECK(silent.what.empty());
    const outcome loud = in_a_child(tell_and_return, broken);
    CHECK(loud.trapped);
    CHECK(loud.what.substr(0, 7) == "broken|");
}

TEST_CASE("the vocabulary's contracts and their words", "[core]") {
    CHECK(said([] { (void)entry::rights(opaque(std::uint8_t{8})); }) ==
          "the value does not fit the field");
    CHECK(said([] { (void)entry::frame(pt::hpa{opaque(std::uint64_t{0x1001})}); }) ==
          "the address does not fit the field");
    CHECK(said([] { (void)entry::frame(pt::hpa{opaque(std::uint64_t{1} << 52)}); }) ==
          "the address does not fit the field");
    CHECK(said([] {
              (void)pt::range<pt::io_port>{pt::io_port{0xFFFF}, opaque(2ULL)};
          }) == "a range must not wrap past the end of its address space");
    CHECK(said([] {
              (void)pt::range<pt::gpa>{pt::gpa{1}, opaque(0ULL)}.last();
          }) == "an empty range has no last address");
    CHECK(said([] {
              const pt::result<int> r = pt::error{opaque(pt::errc::busy)};
              (void)r.value();
          }) == "result::value() of a result that holds an error");
    CHECK(said([] {
              const pt::result<> r = pt::error{opaque(pt::errc::busy)};
              r.value();
          }) == "result::value() of a result that holds an error");
    CHECK(said([] {
              const pt::result<int> r = opaque(1);
              (void)r.error();
          }) == "result::error() of a result that holds a value");
    CHECK(said([] {
              const pt::result<> r;
              (void)r.error();
          }) == "result::error() of a result that holds a value");
    CHECK(said([] { (void)pt::result<int>{pt::error{opaque(pt::errc::none)}}; }) ==
          "an error result needs a code other than none");
    CHECK(said([] { (void)pt::result<>{pt::error{opaque(pt::errc::none)}}; }) ==
          "an error result needs a code other than none");
}

} // namespace contract_test
