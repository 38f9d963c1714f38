// SPDX-License-Identifier: BSL-1.0
#include "kernels.hpp"

#include <map>
#include <set>
#include <sstream>

#include <catch2/catch_test_macros.hpp>
#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>

#ifndef PT_KERNEL_DIRECTORY // only the build knows; who only reads the sources need not
#define PT_KERNEL_DIRECTORY "."
#define PT_KERNEL_COMPILERS "g++ clang++"
#endif

namespace runner {
namespace {

/// The boots that a run through a test case has come to.
std::set<std::string> seen;

class beginning : public Catch::EventListenerBase {
public:
    using EventListenerBase::EventListenerBase;
    void testCasePartialStarting(const Catch::TestCaseInfo&, std::uint64_t) override {
        seen.clear();
    }
};

CATCH_REGISTER_LISTENER(beginning)

void sections_of(const run& done) {
    INFO("emulator: " << done.said << "\nkernel:\n" << done.log);
    DYNAMIC_SECTION("the run ends in order") {
        INFO(done.defect.value_or(""));
        CHECK_FALSE(done.defect);
    }
    for (const check& each : done.checks) {
        DYNAMIC_SECTION(each.name) {
            INFO(each.why);
            CHECK(each.holds);
        }
    }
}

} // namespace

std::vector<std::string> compilers() {
    std::istringstream names{PT_KERNEL_COMPILERS}; // separated by blanks
    std::vector<std::string> all;
    for (std::string name; names >> name;) {
        all.push_back(name);
    }
    return all;
}

std::string kernel_file(const std::string& compiler, const std::string& extension) {
    return std::string{PT_KERNEL_DIRECTORY "/kernel."}.append(compiler).append(".").append(
        extension);
}

void section_of_boot(const std::string& name, const std::function<run()>& boot) {
    static std::map<std::string, run> runs;
    if (!seen.insert(name).second) {
        FAIL("the test case has this boot twice: " << name);
    }
    DYNAMIC_SECTION(name) {
        if (!runs.contains(name)) {
            runs.emplace(name, boot());
        }
        sections_of(runs.at(name));
    }
}

} // namespace runner
