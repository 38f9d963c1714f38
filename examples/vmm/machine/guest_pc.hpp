// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../../kernel/clock.hpp"
#include "../../kernel/memory.hpp"
#include "../loop/console.hpp"
#include "../loop/virtual_pc.hpp"
#include "../pc/acpi.hpp"
#include "../pc/guest_ram.hpp"
#include "../pc/multiboot.hpp"
#include "host.hpp"
#include "log.hpp"
#include "policies.hpp"

#include "pt/assign/claims.hpp"
#include "pt/assign/guest.hpp"
#include "pt/assign/memory_reach.hpp"
#include "pt/assign/ownership_room.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/lapic/host_vector_routes.hpp"
#include "pt/vmx/shared_io_bitmap.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm {

/// Host memory of one guest.
struct guest_storage {
    pt::range<pt::hpa> memory{}; ///< from guest-physical 0 on; a multiple of 2 MiB
    /// 128 KiB that the guest finds at 0xE0000, where a PC has its firmware: on pages of its own, since
    /// functions do not reach them.
    pt::hpa firmware{};
};

/// Which guest, of how many.
struct guest_number {
    unsigned number = 0;
    unsigned count = 1;
};

/// A guest's PC with all that it is made of: its processor, its tables, the devices that the VMM plays.
/// Functions come later (guest_nic). `V` are policies<...>. It lies where its address is the physical
/// one.
template <class V>
class guest_pc {
public:
    using world = typename V::world;
    using pc_type = virtual_pc<V, world, pc_board, host_cpuid>;

    /// The guest has its memory and devices, and no kernel yet. The run ends where that cannot be.
    guest_pc(guest_number which, guest_storage storage, typename V::dma dma)
        : events_{.guest = which.number},
          storage_{storage},
          world_{host_ports, host_port_count},
          table_{kernel::memory(), world::second_level()},
          ports_{world_.ports(), kept_ports_, sizeof kept_ports_ / sizeof kept_ports_[0]},
          console_{which.count == 1 ? console<to_com1>{to_com1{}}
                                    : console<to_com1>{to_com1{}, which.number}},
          board_{kernel::clock{}, to_console<to_com1>{&console_}, guest_epoch,
                 storage.memory.size(), physical_address_width()},
          guest_{{.pages = table_,
                  .memory = memory_attributes(world::second_level()),
                  .device_memory = register_attributes(world::second_level()),
                  .processors = world_.processors(),
                  .ports = ports_,
                  .space = space_,
                  .port_space = port_space_,
                  .windows = device_memory,
                  .port_windows = device_ports,
                  .host_ports = {},
                  .dma = dma,
                  .bus = board_.bus(),
                  .routes = routes_,
                  .platform = typename V::devices{board_},
                  .reports = guest_reports{&events_}}},
          pc_{world_,       guest_,
              board_,       pc::guest_ram{pieces_, piece_count},
              host_cpuid{}, physical_address_width()} {
        give_memory();
        demand(pc_.reserve_devices(), "the guest's devices find no place");
        demand(pc::write_acpi_tables(ram(), {}), "the guest gets no ACPI tables");
        const auto root = table_.root();
        demand(root, "the guest gets no tables");
        demand(world_.use_pages(table_.format(), *root), "the processor does not take the tables");
    }
    guest_pc(const guest_pc&) = delete;
    guest_pc& operator=(const guest_pc&) = delete;

    /// Loads a kernel, and the guest starts with its first entry. The run ends with why it is none.
    void boot(pc::file_bytes kernel, const char* words, const pc::multiboot_module* modules,
              std::uint32_t module_count) {
        const pc::multiboot_kernel loaded =
            pc::multiboot_loader{ram()}.load(kernel, words, modules, module_count);
        if (!loaded) {
            say("guest ", decimal{number()}, ", ", words, ": ", pc::explain(loaded.error), " (",
                loaded.where, ")");
            give_up("the guest's kernel is none");
        }
        pc_.start(loaded);
    }

    [[nodiscard]] unsigned number() const { return events_.guest; }
    [[nodiscard]] guest_events& events() { return events_; }
    [[nodiscard]] world& virtual_processor() { return world_; }
    [[nodiscard]] typename V::pages& pages() { return table_; }
    [[nodiscard]] pc_board& hardware() { return board_; }
    [[nodiscard]] pt::assign::guest<V>& guest() { return guest_; }
    [[nodiscard]] const pt::lapic::host_vector_routes& routes() const { return routes_; }
    [[nodiscard]] pc_type& pc() { return pc_; }
    [[nodiscard]] const guest_storage& storage() const { return storage_; }
    [[nodiscard]] pc::guest_ram ram() const { return {pieces_, piece_count}; }
    /// Bits of its physical addresses.
    [[nodiscard]] static std::uint8_t physical_address_width() {
        const unsigned tables = world::second_level().input_width();
        const unsigned processor = kernel::physical_width();
        return static_cast<std::uint8_t>(tables < processor ? tables : processor);
    }

    /// What the guest owns, by its claims. The lists are this one's, until the next call.
    template <class UnitOf>
    [[nodiscard]] pt::result<pt::assign::ownership> owned(UnitOf unit_of) {
        return guest_.owned(owned_.room(), static_cast<std::uint16_t>(number()), unit_of);
    }

    /// What has begun on COM1 goes out, too.
    void flush() { console_.flush(); }

    /// The guest is gone. Its functions went before.
    pt::result<void> retire() { return guest_.retire(); }

private:
    static constexpr std::uint32_t piece_count = 3;
    static constexpr std::uint64_t firmware_at = 0xE'0000;

    void give_memory() {
        using pt::assign::memory_reach;
        const auto piece = [&](std::uint64_t first, std::uint64_t end, pt::hpa host,
                               pc::memory_kind kind, memory_reach reach) {
            const pt::range<pt::gpa> at{pt::gpa{first}, end - first};
            demand(guest_.give_memory(at, host, reach), "the guest gets no memory");
            return pc::ram_piece{at, kernel::pointer_to<std::uint8_t>(host), kind};
        };
        // Between the first two lies what a PC has for its display and its option ROMs.
        const pt::hpa base = storage_.memory.first();
        pieces_[0] = piece(0, 0xA'0000, base, pc::memory_kind::available,
                           memory_reach::processors_and_devices);
        pieces_[1] = piece(firmware_at, pt::MiB, storage_.firmware, pc::memory_kind::reserved,
                           memory_reach::processors_only);
        pieces_[2] = piece(pt::MiB, storage_.memory.size(), base + pt::MiB,
                           pc::memory_kind::available, memory_reach::processors_and_devices);
    }

    guest_events events_;
    guest_storage storage_;
    world world_;
    typename V::pages table_;
    pt::vmx::kept_ports kept_ports_[16]{};
    pt::vmx::shared_io_bitmap ports_;
    pt::assign::claim<pt::gpa> space_slots_[32]{};
    pt::assign::claim<pt::io_port> port_slots_[32]{};
    pt::assign::claims<pt::gpa> space_{space_slots_};
    pt::assign::claims<pt::io_port> port_space_{port_slots_};
    pt::lapic::host_vector_routes routes_{};
    console<to_com1> console_;
    pc_board board_;
    pc::ram_piece pieces_[piece_count]{};
    pt::assign::guest<V> guest_;
    pc_type pc_;
    pt::assign::ownership_lists<64, 16, 8, 64> owned_{};
};

} // namespace vmm
