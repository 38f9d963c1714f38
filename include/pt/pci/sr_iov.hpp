// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/function_address.hpp"

#include <cstddef>
#include <cstdint>

/// Single Root I/O Virtualization (SR-IOV), an extended capability of 64 bytes [pcie]: a physical
/// function (PF) that can show virtual functions (VF), which are passed through one by one.
namespace pt::pci {

/// SR-IOV Capabilities.
struct sr_iov_capabilities : reg<sr_iov_capabilities, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x04;

    // clang-format off
    static constexpr bits<31, 21, std::uint16_t, access::read_only> vf_migration_interrupt_message_number{};
    static constexpr bits< 2,  2, bool, access::read_only> vf_10_bit_tag_requester_supported{};
    static constexpr bits< 1,  1, bool, access::read_only> ari_capable_hierarchy_preserved{};
    static constexpr bits< 0,  0, bool, access::read_only> vf_migration_capable{};
    // clang-format on
    static constexpr field_list fields{vf_migration_interrupt_message_number,
                                       vf_10_bit_tag_requester_supported,
                                       ari_capable_hierarchy_preserved, vf_migration_capable};
};

/// SR-IOV Control.
struct sr_iov_control : reg<sr_iov_control, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x08;

    // clang-format off
    static constexpr bits<15, 6, std::uint16_t, access::preserve> reserved_15_6{};
    static constexpr bits< 5, 5, bool> vf_10_bit_tag_requester_enable{};
    /// In the lowest-numbered PF of the device; reads 0 in the others. Moves the VFs.
    static constexpr bits< 4, 4, bool> ari_capable_hierarchy{};
    static constexpr bits< 3, 3, bool> vf_memory_space_enable{};
    static constexpr bits< 2, 2, bool> vf_migration_interrupt_enable{};
    static constexpr bits< 1, 1, bool> vf_migration_enable{};
    static constexpr bits< 0, 0, bool> vf_enable{}; ///< the VFs exist
    // clang-format on
    static constexpr field_list fields{reserved_15_6,
                                       vf_10_bit_tag_requester_enable,
                                       ari_capable_hierarchy,
                                       vf_memory_space_enable,
                                       vf_migration_interrupt_enable,
                                       vf_migration_enable,
                                       vf_enable};
};

/// SR-IOV Status.
struct sr_iov_status : reg<sr_iov_status, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x0A;

    static constexpr bits<15, 1, std::uint16_t, access::zero> reserved_15_1{};
    static constexpr bits<0, 0, bool, access::write_1_to_clear> vf_migration_status{};
    static constexpr field_list fields{reserved_15_1, vf_migration_status};
};

/// InitialVFs: the most that can be enabled without migration.
struct sr_iov_initial_vfs : reg<sr_iov_initial_vfs, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x0C;

    static constexpr bits<15, 0, std::uint16_t, access::read_only> count{};
    static constexpr field_list fields{count};
};

/// TotalVFs: the most that can be enabled at all. VF BARs span as many.
struct sr_iov_total_vfs : reg<sr_iov_total_vfs, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x0E;

    static constexpr bits<15, 0, std::uint16_t, access::read_only> count{};
    static constexpr field_list fields{count};
};

/// NumVFs: how many VF Enable makes visible. Written only while VF Enable is 0.
struct sr_iov_num_vfs : reg<sr_iov_num_vfs, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x10;

    static constexpr bits<15, 0, std::uint16_t> count{};
    static constexpr field_list fields{count};
};

/// Function Dependency Link: the PF that this one's VFs depend on; itself if on none.
struct sr_iov_function_dependency_link : reg<sr_iov_function_dependency_link, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x12;

    static constexpr bits<7, 0, std::uint8_t, access::read_only> function{};
    static constexpr field_list fields{function};
};

/// First VF Offset: from the PF's routing id to the first VF's. It may change with NumVFs and with ARI
/// Capable Hierarchy.
struct sr_iov_first_vf_offset : reg<sr_iov_first_vf_offset, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x14;

    static constexpr bits<15, 0, std::uint16_t, access::read_only> routing_ids{};
    static constexpr field_list fields{routing_ids};
};

/// VF Stride: from each VF's routing id to the next one's. It may change as First VF Offset may.
struct sr_iov_vf_stride : reg<sr_iov_vf_stride, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x16;

    static constexpr bits<15, 0, std::uint16_t, access::read_only> routing_ids{};
    static constexpr field_list fields{routing_ids};
};

/// VF Device ID: what a VF's own header does not tell, which reads all ones there.
struct sr_iov_vf_device_id : reg<sr_iov_vf_device_id, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x1A;

    static constexpr bits<15, 0, std::uint16_t, access::read_only> device_id{};
    static constexpr field_list fields{device_id};
};

/// Supported Page Sizes and System Page Size: bit n is 4 KiB << n. VF BARs are at least as large.
struct sr_iov_supported_page_sizes : reg<sr_iov_supported_page_sizes, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x1C;

    static constexpr bits<31, 0, std::uint32_t, access::read_only> sizes{};
    static constexpr field_list fields{sizes};
};
/// One bit is set. Written only while VF Enable is 0; VF BARs are sized after that.
struct sr_iov_system_page_size : reg<sr_iov_system_page_size, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x20;

    static constexpr bits<31, 0, std::uint32_t> size{};
    static constexpr field_list fields{size};
};

/// A physical function's SR-IOV, as it was when read.
struct sr_iov {
    static constexpr unsigned size = 0x40; ///< bytes, header included
    /// Where the six VF BARs begin, in bytes from the header.
    static constexpr std::uint16_t bars_in_capability = 0x24;

    extended_capability at{};
    sr_iov_capabilities capabilities{};
    sr_iov_control control{};
    std::uint16_t initial_vfs = 0;
    std::uint16_t total_vfs = 0;
    std::uint16_t num_vfs = 0;
    std::uint8_t function_dependency_link = 0;
    std::uint16_t first_vf_offset = 0;
    std::uint16_t vf_stride = 0;
    std::uint16_t vf_device_id = 0;
    std::uint32_t supported_page_sizes = 0; ///< bit n: 4 KiB << n
    std::uint64_t system_page_size = 0;     ///< bytes

    friend constexpr bool operator==(const sr_iov&, const sr_iov&) = default;
};

/// errc::absent when the function has none. errc::malformed with the capability's offset when it
/// runs past the end of the space, or counts what cannot be: more InitialVFs or NumVFs than
/// TotalVFs, a system page size that is not one of the supported ones, a first VF that is the PF, or
/// several VFs without a stride.
template <config_access Config>
[[nodiscard]] constexpr result<sr_iov> read_sr_iov(Config config, function_address function) {
    const auto at = extended_capabilities(config, function)
                        .find(extended_capability_id::single_root_io_virtualization, sr_iov::size);
    if (!at) {
        return at.error();
    }
    sr_iov found{};
    found.at = *at;
    found.capabilities = read<sr_iov_capabilities>(config, function, *at);
    found.control = read<sr_iov_control>(config, function, *at);
    found.initial_vfs = read<sr_iov_initial_vfs>(config, function, *at).raw;
    found.total_vfs = read<sr_iov_total_vfs>(config, function, *at).raw;
    found.num_vfs = read<sr_iov_num_vfs>(config, function, *at).raw;
    found.function_dependency_link =
        read<sr_iov_function_dependency_link>(config, function, *at).raw;
    found.first_vf_offset = read<sr_iov_first_vf_offset>(config, function, *at).raw;
    found.vf_stride = read<sr_iov_vf_stride>(config, function, *at).raw;
    found.vf_device_id = read<sr_iov_vf_device_id>(config, function, *at).raw;
    found.supported_page_sizes = read<sr_iov_supported_page_sizes>(config, function, *at).raw;
    const std::uint32_t page = read<sr_iov_system_page_size>(config, function, *at).raw;
    found.system_page_size = 4 * KiB * page;

    const bool counts = found.initial_vfs <= found.total_vfs && found.num_vfs <= found.total_vfs;
    const bool pages = (page & (page - 1)) == 0 && (page & found.supported_page_sizes) != 0;
    const bool places = (found.num_vfs < 1 || found.first_vf_offset != 0) &&
                        (found.num_vfs < 2 || found.vf_stride != 0);
    if (!counts || !pages || !places) {
        return error{errc::malformed, at->offset};
    }
    return found;
}

/// The addresses of a physical function's VFs, in order, as a lazy range. Routing ids are source ids
/// (function_address): they may lead to other buses of the segment, and the range ends where they
/// would pass 0xFFFF.
class virtual_function_list {
public:
    using value_type = function_address;

    class iterator {
    public:
        using value_type = function_address;
        using difference_type = std::ptrdiff_t;

        constexpr iterator() = default;

        [[nodiscard]] constexpr function_address operator*() const {
            return function_address::from_source_id(static_cast<std::uint16_t>(routing_id_),
                                                    segment_);
        }
        constexpr iterator& operator++() {
            routing_id_ += stride_;
            --left_;
            return *this;
        }
        constexpr iterator operator++(int) {
            iterator before = *this;
            ++*this;
            return before;
        }

        friend constexpr bool operator==(const iterator& a, const iterator& b) {
            return a.left_ == b.left_;
        }

    private:
        friend virtual_function_list;

        std::uint32_t routing_id_ = 0;
        std::uint16_t segment_ = 0;
        std::uint16_t stride_ = 0;
        std::uint16_t left_ = 0; ///< 0 at the end
    };

    constexpr virtual_function_list() = default;
    /// `count` VFs of `physical_function`, whose first VF offset and stride are as its SR-IOV
    /// capability has them with that NumVFs.
    constexpr virtual_function_list(function_address physical_function,
                                    std::uint16_t first_vf_offset, std::uint16_t vf_stride,
                                    std::uint16_t count) {
        first_.routing_id_ = std::uint32_t{physical_function.source_id()} + first_vf_offset;
        first_.segment_ = physical_function.segment;
        first_.stride_ = vf_stride;
        if (first_.routing_id_ <= 0xFFFF) {
            const std::uint32_t more =
                vf_stride == 0 ? 0 : (0xFFFF - first_.routing_id_) / vf_stride;
            first_.left_ = count > more ? static_cast<std::uint16_t>(more + 1) : count;
        }
    }

    [[nodiscard]] constexpr iterator begin() const { return first_; }
    [[nodiscard]] constexpr iterator end() const { return {}; }
    [[nodiscard]] constexpr std::size_t size() const { return first_.left_; }

private:
    iterator first_{};
};

/// The VFs that NumVFs asks for. They answer while VF Enable is set, from some time after that
/// on; a scan does not find them, for their vendor id reads all ones.
[[nodiscard]] constexpr virtual_function_list virtual_functions(function_address physical_function,
                                                                const sr_iov& of) {
    return {physical_function, of.first_vf_offset, of.vf_stride, of.num_vfs};
}

/// The same, read from the physical function; the errors of read_sr_iov.
template <config_access Config>
[[nodiscard]] constexpr result<virtual_function_list>
virtual_functions(Config config, function_address physical_function) {
    const auto found = read_sr_iov(config, physical_function);
    if (!found) {
        return found.error();
    }
    return virtual_functions(physical_function, *found);
}

/// Decodes what VF BAR `index` (0..5) holds, as decode_bar does; the bar's offset is the register's
/// in the capability, its address that of the first VF. errc::malformed with the offset also for
/// ports and for memory below 1 MiB, which no VF has [pcie].
[[nodiscard]] constexpr result<bar> decode_vf_bar(const sr_iov& of, std::uint8_t index,
                                                  std::uint32_t low, std::uint32_t high) {
    if (index >= bar_count(header_layout::device)) {
        return error{errc::absent, index};
    }
    const auto offset =
        static_cast<std::uint16_t>(of.at.offset + sr_iov::bars_in_capability + 4 * index);
    auto decoded = decode_bar(header_layout::device, index, low, high);
    if (!decoded || decoded->kind == bar_kind::io || decoded->kind == bar_kind::mem1m) {
        return error{errc::malformed, offset};
    }
    decoded->offset = offset;
    return decoded;
}

/// The VF BARs as they are, without a write; sizes stay 0, and registers that hold 0 are left out.
template <config_access Config>
[[nodiscard]] constexpr bar_list read_vf_bars(Config config, function_address physical_function,
                                              const sr_iov& of) {
    bar_registers<Config> registers{config, physical_function};
    const auto get = [&](std::uint8_t index) -> result<bar> {
        auto decoded = decode_vf_bar(of, index, 0, 0);
        if (!decoded) {
            return decoded;
        }
        const auto low = static_cast<std::uint32_t>(registers.read(*decoded));
        if (low == 0) {
            return error{errc::absent, decoded->offset};
        }
        decoded = decode_vf_bar(of, index, low, 0);
        if (decoded && decoded->kind == bar_kind::mem64) {
            decoded->address =
                registers.read(*decoded) & ~std::uint64_t{bar_flag_bits(bar_kind::mem64)};
        }
        return decoded;
    };
    return bar_list::collect(header_layout::device, get, get);
}

/// The VF BARs, sized: each size is that of one VF, and one for every VF follows at the address.
/// Set System Page Size before. errc::busy with the capability's offset while VF Enable is set,
/// because then somebody's VFs decode these addresses; otherwise nothing does, and nothing has to
/// be turned off. An entry is errc::malformed also when it is smaller than the system page: two VFs
/// would share one.
template <config_access Config>
[[nodiscard]] constexpr result<bar_list>
size_vf_bars(Config config, function_address physical_function, const sr_iov& of) {
    if (read<sr_iov_control>(config, physical_function, of.at)[sr_iov_control::vf_enable]) {
        return error{errc::busy, of.at.offset};
    }
    bar_registers<Config> registers{config, physical_function};
    const auto decode = [&](std::uint8_t index) -> result<bar> {
        const auto single = decode_vf_bar(of, index, 0, 0);
        if (!single) {
            return single;
        }
        return decode_vf_bar(of, index, static_cast<std::uint32_t>(registers.read(*single)), 0);
    };
    const auto size = [&](std::uint8_t index) -> result<bar> {
        const auto decoded = decode(index);
        if (!decoded) {
            return decoded;
        }
        const auto sized = registers.size(*decoded);
        if (sized && sized->size < of.system_page_size) {
            return error{errc::malformed, sized->offset};
        }
        return sized;
    };
    return bar_list::collect(header_layout::device, size, decode);
}

/// The bytes that a sized VF BAR takes for `vfs` VFs; give it TotalVFs when placing it, and NumVFs
/// to know what is decoded. errc::out_of_range with the address when they would pass the end of
/// what the kind can decode; errc::misaligned with it as of check_bar_address.
[[nodiscard]] constexpr result<std::uint64_t> vf_bar_span(const bar& sized, std::uint16_t vfs) {
    if (const auto allowed = check_bar_address(sized, sized.address); !allowed) {
        return allowed.error();
    }
    const std::uint64_t after_first = (bar_last_address(sized.kind) - sized.address) / sized.size;
    if (vfs > after_first + 1 || vfs > ~std::uint64_t{0} / sized.size) {
        return error{errc::out_of_range, sized.address};
    }
    return sized.size * vfs;
}

/// The BAR of VF `vf`, counted from 0: `sized` moved up by so many sizes. Errors of
/// vf_bar_span.
[[nodiscard]] constexpr result<bar> bar_of_vf(const bar& sized, std::uint16_t vf) {
    if (vf == 0xFFFF) {
        return error{errc::out_of_range, sized.address}; // there are never so many
    }
    const auto span = vf_bar_span(sized, static_cast<std::uint16_t>(vf + 1));
    if (!span) {
        return span.error();
    }
    bar moved = sized;
    moved.address += sized.size * vf;
    return moved;
}

/// Moves a sized VF BAR so that the first VF's is at `address`, and gives it as it is now. Errors of
/// write_bar; errc::out_of_range also when those of TotalVFs would pass the end; errc::busy with the
/// capability's offset while VF Enable is set. With an error nothing has changed.
template <config_access Config>
[[nodiscard]] constexpr result<bar> write_vf_bar(Config config, function_address physical_function,
                                                 const sr_iov& of, const bar& sized,
                                                 std::uint64_t address) {
    if (const auto allowed = check_bar_address(sized, address); !allowed) {
        return allowed.error();
    }
    bar placed = sized;
    placed.address = address;
    if (const auto span = vf_bar_span(placed, of.total_vfs); !span) {
        return span.error();
    }
    if (read<sr_iov_control>(config, physical_function, of.at)[sr_iov_control::vf_enable]) {
        return error{errc::busy, of.at.offset};
    }
    bar_registers<Config> registers{config, physical_function};
    return registers.place(sized, address);
}

} // namespace pt::pci
