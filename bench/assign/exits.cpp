// SPDX-License-Identifier: BSL-1.0
// What an exit loop does all the time: one interrupt of an assigned device, from the exit to the word that
// the entry takes, and the accesses of the guest that exit. A floor is the least that has to happen,
// written by hand, in the same run.
#include "../flavours/row.hpp"
#include "../interrupts/random.hpp"
#include "machine.hpp"

#include "pt/core/atomic.hpp"
#include "pt/svm/event.hpp"
#include "pt/vmx/interruption.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>

namespace bench {
namespace {

constexpr std::size_t frames = 1024;
constexpr std::uint64_t exits = 4096;
constexpr unsigned vectors_in_use = nic_vectors - 1;

/// `exit(random number, which)` again and again, as from different places: nothing is kept in registers of
/// what `measured` holds. Whether all were right.
template <class Measured, class Exit>
bool at_each_exit(Measured* measured, Exit exit) {
    random_numbers random;
    bool good = true;
    for (std::uint64_t i = 0; i != exits; ++i) {
        good = exit(random.next(), i) && good;
        keep(measured);
    }
    return good;
}

/// A guest that drives its NIC.
class driven {
public:
    explicit driven(const region& all) : m_{all} {
        good_ = m_.ready() && m_.assign() && m_.drive() && m_.enter();
    }
    [[nodiscard]] bool ready() const { return good_; }
    bool undo() { return true; }

protected:
    machine m_;

private:
    bool good_ = false;
};

// -------------------------------------------------------------------------------- an interrupt

struct vmx_words {
    static std::uint32_t of(const vcpu::event& event) {
        return pt::vmx::entry_of(event, vcpu::processor_mode::protected_mode).information.raw;
    }
};
struct svm_words {
    static std::uint32_t of(const vcpu::event& event) {
        return static_cast<std::uint32_t>(
            pt::svm::injection_of(event, vcpu::processor_mode::protected_mode).injection.raw);
    }
};

/// The vectors of the device, each time another; the guest's handler ends it.
class interrupts : public driven {
public:
    explicit interrupts(const region& all) : driven{all} {
        for (unsigned n = 0; n != vectors_in_use && ready(); ++n) {
            host_vectors_[n] = m_.host_vector(n);
        }
    }

protected:
    /// `taken(host vector)` makes it the guest's; `word(event)` is what the entry takes.
    template <class Taken, class Word>
    bool run_all(Taken taken, Word word) {
        return at_each_exit(this, [&](std::uint64_t random, std::uint64_t) {
            const auto n = static_cast<unsigned>(random % vectors_in_use);
            bool good = taken(host_vectors_[n]);
            const auto decision = m_.cpu.before_entry();
            good = word(decision.event) == (0x8000'0000 | m_.guest_vector(n)) && good;
            (void)m_.apic.eoi();
            return good;
        });
    }

private:
    std::uint8_t host_vectors_[vectors_in_use]{};
};

constexpr auto vmx_word = [](const vcpu::event& event) {
    return pt::vmx::entry_of(event, vcpu::processor_mode::protected_mode).information.raw;
};
constexpr auto svm_word = [](const vcpu::event& event) {
    return static_cast<std::uint32_t>(
        pt::svm::injection_of(event, vcpu::processor_mode::protected_mode).injection.raw);
};

/// The processor that it is for was running, and has exited.
template <const auto& word>
class interrupt_here : public interrupts {
public:
    using interrupts::interrupts;
    bool run(unsigned) {
        return run_all(
            [this](std::uint8_t vector) {
                return m_.cpu.on_external_interrupt(vector).action == assign::action::resume;
            },
            word);
    }
};

/// Some other CPU took it, and that processor's finds it in the inbox.
class interrupt_elsewhere : public interrupts {
public:
    using interrupts::interrupts;
    bool run(unsigned) {
        return run_all([this](std::uint8_t vector) { return m_.guest.deliver(vector).has_value(); },
                       vmx_word);
    }
};

/// One table for all vectors of the host; a word is the guest's vector, and bit 31.
class by_hand {
public:
    explicit by_hand(const region&) {
        for (unsigned n = 0; n != vectors_in_use; ++n) {
            host_vectors_[n] = static_cast<std::uint8_t>(0x40 + n);
            routes_[host_vectors_[n]] = 0x8000'0000U | machine::guest_vector(n);
        }
    }
    [[nodiscard]] bool ready() const { return true; }
    bool undo() { return true; }

protected:
    std::uint8_t host_vectors_[vectors_in_use]{};
    std::uint32_t routes_[256]{};
    alignas(64) std::uint64_t requests_[4]{};
    std::uint64_t in_service_ = 0;
};

/// A load of the table, a bit set, a comparison with what is in service, a word made. It knows only one
/// processor: nobody else may set the bit.
class interrupt_by_hand : public by_hand {
public:
    using by_hand::by_hand;
    bool run(unsigned) {
        random_numbers random;
        bool good = true;
        for (std::uint64_t i = 0; i != exits; ++i) {
            const auto n = static_cast<unsigned>(random.next() % vectors_in_use);
            const std::uint32_t route = routes_[host_vectors_[n]];
            good = route != 0 && good;
            requests_[route / 64 % 4] |= std::uint64_t{1} << route % 64;
            keep(this);
            const std::uint64_t vector = highest();
            requests_[vector / 64] &= ~(std::uint64_t{1} << vector % 64);
            good = vector / 16 > in_service_ / 16 && good;
            in_service_ = vector;
            good = (0x8000'0000 | vector) == (0x8000'0000U | machine::guest_vector(n)) && good;
            keep(this);
            in_service_ = 0; // EOI
        }
        return good;
    }

private:
    [[nodiscard]] std::uint64_t highest() const {
        for (std::uint64_t word = 3; word != 0; --word) {
            if (requests_[word] != 0) {
                return word * 64 + 63 -
                       static_cast<std::uint64_t>(std::countl_zero(requests_[word]));
            }
        }
        return 63 - static_cast<std::uint64_t>(std::countl_zero(requests_[0] | 1));
    }
};

/// The same where another CPU sets the bit: by an atomic OR, and the owner takes it by an exchange.
class interrupt_by_hand_elsewhere : public by_hand {
public:
    using by_hand::by_hand;
    bool run(unsigned) {
        random_numbers random;
        bool good = true;
        for (std::uint64_t i = 0; i != exits; ++i) {
            const auto n = static_cast<unsigned>(random.next() % vectors_in_use);
            const std::uint32_t route = pt::atomic::load(&routes_[host_vectors_[n]]);
            good = route != 0 && good;
            pt::atomic::fetch_or(&requests_[route / 64 % 4], std::uint64_t{1} << route % 64);
            keep(this);
            for (std::uint64_t word = 0; word != 4; ++word) {
                if (pt::atomic::load(&requests_[word]) != 0) {
                    accepted_[word] |= pt::atomic::exchange(&requests_[word], std::uint64_t{0});
                    highest_ = word * 64 + 63 -
                               static_cast<std::uint64_t>(std::countl_zero(accepted_[word]));
                }
            }
            accepted_[highest_ / 64] &= ~(std::uint64_t{1} << highest_ % 64);
            good = highest_ / 16 > in_service_ / 16 && good;
            in_service_ = highest_;
            good = (0x8000'0000 | highest_) == (0x8000'0000U | machine::guest_vector(n)) && good;
            keep(this);
            in_service_ = 0; // EOI
        }
        return good;
    }

private:
    std::uint64_t accepted_[4]{};
    std::uint64_t highest_ = 0;
};

/// What every exit costs, whatever it was: an entry with nothing to deliver.
class entry_without_event : public driven {
public:
    using driven::driven;
    bool run(unsigned) {
        bool good = true;
        for (std::uint64_t i = 0; i != exits; ++i) {
            good = m_.enter() && good;
            keep(this);
        }
        return good;
    }
};

// ------------------------------------------------------------------------- accesses to ports

constexpr std::uint16_t port_of(std::uint64_t random) {
    return static_cast<std::uint16_t>(ports_here + 4 * (random % 8));
}

/// The host's ports without anything before them.
class direct_ports {
public:
    explicit direct_ports(const region&) {}
    [[nodiscard]] bool ready() const { return true; }
    bool undo() { return true; }
    bool run(unsigned) {
        host_ports ports{&host_};
        return at_each_exit(this, [&](std::uint64_t random, std::uint64_t i) {
            const auto offset = static_cast<std::uint16_t>(port_of(random) - ports_here);
            ports.out32(io_port{static_cast<std::uint16_t>(nic_ports + offset)},
                        static_cast<std::uint32_t>(i));
            return true;
        });
    }

protected:
    hardware host_;
};

/// One BAR that is known, and the lock without which it could move between the look and the access.
class forwarded_by_hand : public direct_ports {
public:
    using direct_ports::direct_ports;
    bool run(unsigned) {
        host_ports ports{&host_};
        return at_each_exit(this, [&](std::uint64_t random, std::uint64_t i) {
            const std::uint16_t port = port_of(random);
            spin_lock lock{&lock_};
            lock.lock();
            const bool good = port >= bar_ && port + 4U <= bar_ + size_;
            ports.out32(io_port{static_cast<std::uint16_t>(port - bar_ + to_)},
                        static_cast<std::uint32_t>(i));
            lock.unlock();
            return good;
        });
    }

private:
    unsigned char lock_ = 0;
    unsigned bar_ = ports_here;
    unsigned size_ = 32;
    unsigned to_ = nic_ports;
};

/// OUT to an I/O BAR that the guest has moved.
class io_forwarded : public driven {
public:
    using driven::driven;
    bool run(unsigned) {
        return at_each_exit(this, [this](std::uint64_t random, std::uint64_t i) {
            return m_.out(port_of(random), width::dword, static_cast<std::uint32_t>(i));
        });
    }
};

/// OUT to CONFIG_ADDRESS and IN from CONFIG_DATA; the dwords of the header are what the view knows by
/// itself but for Command and Status.
constexpr std::uint32_t offset_of(std::uint64_t random) {
    return static_cast<std::uint32_t>(8 + 4 * (random % 14));
}
class config_read : public driven {
public:
    using driven::driven;
    bool run(unsigned) {
        return at_each_exit(this, [this](std::uint64_t random, std::uint64_t) {
            const bool good = m_.out(0xCF8, width::dword, 0x8000'1800 | offset_of(random));
            return m_.in(0xCFC, width::dword) && good;
        });
    }
};

/// The same for one function that is known, under one lock for each of the two.
class config_by_hand {
public:
    explicit config_by_hand(const region&) {}
    [[nodiscard]] bool ready() const { return true; }
    bool undo() { return true; }
    bool run(unsigned) {
        random_numbers random;
        bool good = true;
        for (std::uint64_t i = 0; i != exits; ++i) {
            spin_lock lock{&lock_};
            lock.lock();
            latch_ = 0x8000'1800 | offset_of(random.next());
            lock.unlock();
            keep(this);
            lock.lock();
            const std::uint32_t selected = latch_ & 0x80FF'FFFC;
            good = (selected & 0x80FF'FF00) == (0x8000'0000 | function_ << 8) && good;
            rax_ = dwords_[selected % 256 / 4];
            lock.unlock();
            keep(this);
        }
        return good;
    }

private:
    std::uint32_t dwords_[64]{};
    std::uint64_t rax_ = 0;
    std::uint32_t latch_ = 0;
    std::uint32_t function_ = 0x18;
    unsigned char lock_ = 0;
};

// ------------------------------------------------------------------------------ the MSI-X table

/// MOV to a dword of the message of a vector that is masked, where the page is trapped: fetched, decoded,
/// looked up, executed.
class msi_x_write : public driven {
public:
    using driven::driven;
    bool run(unsigned) {
        return at_each_exit(this, [this](std::uint64_t random, std::uint64_t i) {
            return m_.store(msi_x_here + std::uint64_t{16} * vectors_in_use + 4 * (random % 3),
                            static_cast<std::uint32_t>(i));
        });
    }
};

/// What a driver does that masks a vector while it handles it: the route goes and comes.
class msi_x_mask : public driven {
public:
    using driven::driven;
    bool run(unsigned) {
        return at_each_exit(this, [this](std::uint64_t random, std::uint64_t) {
            const std::uint64_t control = msi_x_here + 16 * (random % vectors_in_use) + 12;
            return m_.store(control, 1) && m_.store(control, 0);
        });
    }
};

/// One instruction, MOV [rdi], eax, is recognized by its bytes, which are fetched from the guest's page; its
/// operand is compared with the table, and the dword stored under the lock.
class msi_x_by_hand {
public:
    explicit msi_x_by_hand(const region&) {}
    [[nodiscard]] bool ready() const { return true; }
    bool undo() { return true; }
    bool run(unsigned) {
        return at_each_exit(this, [this](std::uint64_t random, std::uint64_t i) {
            registers_[rdi] = msi_x_here + std::uint64_t{16} * vectors_in_use + 4 * (random % 3);
            registers_[rax] = i;
            std::uint8_t bytes[15];
            flat_memory{code_}.read(gpa{guest_code}, bytes, sizeof bytes);
            keep(&bytes);
            const std::uint64_t offset = registers_[rdi] - table_;
            spin_lock lock{&lock_};
            lock.lock();
            dwords_[offset % sizeof dwords_ / 4] = static_cast<std::uint32_t>(registers_[rax]);
            lock.unlock();
            return bytes[0] == 0x89 && bytes[1] == 0x07 && offset < sizeof dwords_;
        });
    }

private:
    vcpu::general_registers registers_{};
    std::uint8_t code_[0x1000]{0x89, 0x07};
    std::uint64_t table_ = msi_x_here;
    std::uint32_t dwords_[128]{};
    unsigned char lock_ = 0;
};

} // namespace

void add_assign_exit_rows(add_row add) {
    add(row_of<interrupt_by_hand>::make("floor_interrupt", exits, 64, 1));
    add(row_of<interrupt_by_hand_elsewhere>::make("floor_interrupt_elsewhere", exits, 64, 1));
    add(row_of<interrupt_here<vmx_word>>::make("interrupt_to_vmx_entry", exits, 64, frames));
    add(row_of<interrupt_here<svm_word>>::make("interrupt_to_svm_entry", exits, 64, frames));
    add(row_of<interrupt_elsewhere>::make("interrupt_elsewhere_to_entry", exits, 64, frames));
    add(row_of<entry_without_event>::make("entry_without_event", exits, 64, frames));
    add(row_of<direct_ports>::make("floor_port", exits, 64, 1));
    add(row_of<forwarded_by_hand>::make("floor_port_forwarded", exits, 64, 1));
    add(row_of<io_forwarded>::make("io_exit_forwarded", exits, 64, frames));
    add(row_of<config_by_hand>::make("floor_config_read", exits, 64, 1));
    add(row_of<config_read>::make("config_read_by_exits", exits, 64, frames));
    add(row_of<msi_x_by_hand>::make("floor_msi_x_write", exits, 64, 1));
    add(row_of<msi_x_write>::make("msi_x_write_by_exit", exits, 64, frames));
    add(row_of<msi_x_mask>::make("msi_x_mask_unmask", exits, 64, frames));
}

} // namespace bench
