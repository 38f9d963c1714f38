// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <catch2/catch_test_macros.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <string>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#ifndef PT_INSPECT // only the build knows where the program is; who only reads the sources need not
#define PT_INSPECT "pt-inspect"
#endif

/// Running pt-inspect and other programs, and files for them.
namespace tool {

namespace fs = std::filesystem;
using nlohmann::json;

/// A directory that is gone at the end.
struct scratch {
    fs::path path;

    scratch() {
        std::string name = (fs::temp_directory_path() / "pt-inspect-XXXXXX").string();
        REQUIRE(mkdtemp(name.data()) != nullptr);
        path = name;
    }
    scratch(const scratch&) = delete;
    scratch& operator=(const scratch&) = delete;
    ~scratch() {
        std::error_code none;
        fs::remove_all(path, none);
    }

    /// Writes a file, with the directories above it; its full name.
    std::string file(const fs::path& name, const std::string& text) const {
        fs::create_directories((path / name).parent_path());
        std::ofstream{path / name, std::ios::binary} << text;
        return (path / name).string();
    }
    void link(const fs::path& name, const fs::path& target) const {
        fs::create_directories((path / name).parent_path());
        fs::create_symlink(target, path / name);
    }
};

inline std::string contents(const fs::path& file) {
    std::ifstream in{file, std::ios::binary};
    return {std::istreambuf_iterator<char>{in}, {}};
}

struct outcome {
    int exit = -1; ///< 128 and more: a signal
    std::string out;
    std::string err;
};

/// Runs a program; its words are not looked at by the shell.
inline outcome run(const std::vector<std::string>& words, const std::string& before = {}) {
    const scratch here;
    std::string command = before;
    for (const std::string& word : words) {
        command += " '";
        for (const char c : word) {
            command += c == '\'' ? std::string{"'\\''"} : std::string{c};
        }
        command += "'";
    }
    command += " >'" + (here.path / "out").string() + "' 2>'" + (here.path / "err").string() +
               "' </dev/null";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128, contents(here.path / "out"),
            contents(here.path / "err")};
}

inline outcome inspect(std::initializer_list<std::string> words, const std::string& before = {}) {
    std::vector<std::string> all{PT_INSPECT};
    all.insert(all.end(), words);
    return run(all, before);
}

/// What it prints with --json; it must succeed and say nothing else.
inline json inspect_json(std::initializer_list<std::string> words) {
    std::vector<std::string> all{PT_INSPECT};
    all.insert(all.end(), words);
    all.emplace_back("--json");
    const outcome done = run(all);
    CAPTURE(done.err);
    REQUIRE(done.exit == 0);
    CHECK(done.err.empty());
    return json::parse(done.out);
}

inline bool is_here(const std::string& program) {
    return std::system(("command -v " + program + " >/dev/null 2>&1").c_str()) == 0;
}

} // namespace tool
