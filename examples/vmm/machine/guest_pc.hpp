// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../../kernel/clock.hpp"
#include "../../kernel/memory.hpp"
#include "../loop/console.hpp"
#include "../loop/virtual_pc.hpp"
#include "../pc/acpi.hpp"
#include "../pc/guest_ram.hpp"
#include "../pc/memory_layout.hpp"
#include "../pc/multiboot.hpp"
#include "host.hpp"
#include "log.hpp"
#include "policies.hpp"

#include "pt/assign/guest.hpp"
#include "pt/assign/guest_room.hpp"
#include "pt/assign/memory_reach.hpp"
#include "pt/assign/ownership_room.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm {

/// Host memory of one guest.
struct guest_storage {
    pt::range<pt::hpa> memory{}; ///< from guest-physical 0 on; a multiple of 2 MiB
    /// For memory_layout::firmware, on pages of its own: functions do not reach it.
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
          lists_{world_.ports()},
          console_{which.count == 1 ? console<to_com1>{to_com1{}}
                                    : console<to_com1>{to_com1{}, which.number}},
          board_{kernel::clock{}, to_console<to_com1>{&console_}, guest_epoch,
                 storage.memory.size(), physical_address_width()},
          memory_{storage.memory.size()},
          guest_{{.pages = table_,
                  .memory = memory_attributes(world::second_level()),
                  .device_memory = register_attributes(world::second_level()),
                  .processors = world_.processors(),
                  .room = lists_.room(),
                  .windows = device_memory,
                  .port_windows = device_ports,
                  .host_ports = {},
                  .dma = dma,
                  .bus = board_.bus(),
                  .platform = board_.platform(),
                  .reports = guest_reports{&events_}}},
          pc_{world_, guest_, board_, ram(), host_cpuid{}, physical_address_width()} {
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
    [[nodiscard]] pt::assign::guest_room room() { return lists_.room(); }
    [[nodiscard]] pc_type& pc() { return pc_; }
    [[nodiscard]] const guest_storage& storage() const { return storage_; }
    [[nodiscard]] pc::guest_ram ram() const { return memory_.ram(); }
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
    void give_memory() {
        using pt::assign::memory_reach;
        for (pc::ram_piece& each : memory_.pieces) {
            const bool is_firmware = each.kind == pc::memory_kind::reserved;
            const pt::hpa host =
                is_firmware ? storage_.firmware : storage_.memory.first() + each.at.first().raw;
            each.bytes = kernel::pointer_to<std::uint8_t>(host);
            demand(guest_.give_memory(each.at, host,
                                      is_firmware ? memory_reach::processors_only
                                                  : memory_reach::processors_and_devices),
                   "the guest gets no memory");
        }
    }

    guest_events events_;
    guest_storage storage_;
    world world_;
    typename V::pages table_;
    pt::assign::guest_lists<32, 32, 16> lists_;
    console<to_com1> console_;
    pc_board board_;
    pc::memory_layout memory_;
    pt::assign::guest<V> guest_;
    pc_type pc_;
    pt::assign::ownership_lists<64, 16, 8, 64> owned_{};
};

} // namespace vmm
