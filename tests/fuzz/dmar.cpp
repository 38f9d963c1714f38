// SPDX-License-Identifier: BSL-1.0
//
// A DMAR table of arbitrary bytes: reading it and walking it ends, stays inside, and finds each byte
// of a sound table in exactly one structure. Most inputs get a sound header, so that more than the
// header is tried; the last part walks bytes that changed after they were checked.
#include "pt/vtd/dmar.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>

namespace {

void require(bool condition) {
    if (!condition) {
        __builtin_trap();
    }
}

/// Every scope of a sound table has a sound form.
void walk(const pt::vtd::device_scope_list& scopes, bool sound) {
    for (const auto scope : scopes) {
        const auto type = static_cast<unsigned>(scope.type);
        std::size_t hops = 0;
        for (const auto hop : scope.path) {
            require(hop == scope.path[hops]);
            ++hops;
        }
        require(hops == scope.path.size() && hops <= 125);
        require(!sound || type == 0 || type > 5 || hops >= 1);
    }
}

template <class S>
void walk_each(const pt::vtd::dmar& table, bool sound, std::size_t most) {
    std::size_t count = 0;
    for (const S structure : table.each<S>()) {
        ++count;
        if constexpr (requires { structure.scopes; }) {
            walk(structure.scopes, sound);
        }
    }
    require(count <= most / 4);
}

void walk(const pt::vtd::dmar& table, bool sound, std::size_t size) {
    std::size_t next = pt::vtd::dmar::header_size;
    std::size_t structures = 0;
    for (const auto structure : table.structures()) {
        require(structure.offset == next);
        require(structure.offset + structure.bytes.size() <= size);
        require(structure.bytes.size() >= 4);
        next += structure.bytes.size();
        ++structures;
    }
    require(structures <= size / 4);
    require(!sound || next == size);
    walk_each<pt::vtd::drhd>(table, sound, size);
    walk_each<pt::vtd::rmrr>(table, sound, size);
    walk_each<pt::vtd::atsr>(table, sound, size);
    walk_each<pt::vtd::rhsa>(table, sound, size);
    walk_each<pt::vtd::andd>(table, sound, size);
    walk_each<pt::vtd::satc>(table, sound, size);
    walk_each<pt::vtd::sidp>(table, sound, size);
    for (const auto region : table.each<pt::vtd::rmrr>()) {
        if (const auto memory = region.region()) {
            require(memory->first() == region.base && memory->last() == region.limit);
        } else {
            require(region.limit.raw < region.base.raw ||
                    region.limit.raw - region.base.raw == ~0ULL);
        }
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    const std::uint8_t how = data[0];
    ++data;
    --size;
    // A copy of exactly this size: AddressSanitizer sees the first byte too far.
    const std::unique_ptr<std::uint8_t[]> bytes{new std::uint8_t[size]};
    for (std::size_t i = 0; i < size; ++i) {
        bytes[i] = data[i];
    }
    if (how != 0 && size >= 48) {
        const std::uint8_t head[]{'D',
                                  'M',
                                  'A',
                                  'R',
                                  static_cast<std::uint8_t>(size),
                                  static_cast<std::uint8_t>(size >> 8),
                                  static_cast<std::uint8_t>(size >> 16),
                                  static_cast<std::uint8_t>(size >> 24),
                                  1,
                                  0};
        for (std::size_t i = 0; i < sizeof head; ++i) {
            bytes[i] = head[i];
        }
        std::uint8_t sum = 0;
        for (std::size_t i = 0; i < size; ++i) {
            sum = static_cast<std::uint8_t>(sum + bytes[i]);
        }
        bytes[9] = static_cast<std::uint8_t>(0U - sum);
    }
    const auto table = pt::vtd::dmar::read(bytes.get(), size);
    if (!table) {
        require(table.error().where <= size);
        return 0;
    }
    const std::size_t length = bytes[4] | std::size_t{bytes[5]} << 8 | std::size_t{bytes[6]} << 16 |
                               std::size_t{bytes[7]} << 24;
    require(length <= size);
    walk(*table, true, length);
    for (std::size_t i = how; i < size; i += 13) {
        bytes[i] = static_cast<std::uint8_t>(bytes[i] ^ how);
    }
    walk(*table, false, length);
    return 0;
}
