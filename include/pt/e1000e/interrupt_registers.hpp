// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/e1000e/registers.hpp"

#include <cstdint>

namespace pt::e1000e {

/// The interrupt registers as a guest sees them: ICR, ICS, IMS, IMC, IAM, EIAC, IVAR and CTRL_EXT
/// [82574]. The VMM raises causes, forwards the guest's accesses, and after either asks for what
/// the guest has enabled in configuration space:
///
///     asserted()          the level of INTx
///     take_message()      MSI: whether one message is to be sent
///     take_vectors()      MSI-X: the vectors whose messages are to be sent, as a bitmap
///
/// The 8254x family has no IAM, EIAC and IVAR, no causes above bit 16, and a read of ICR always
/// clears it. Times are the VMM's: ITR, EITR and the delay timers are not here.
/// CTRL_EXT.PBA_SUPPORT is kept without effect: a message that waits in the PBA is sent also when
/// the guest enabled its cause again, which the hardware saves.
class interrupt_registers {
public:
    constexpr explicit interrupt_registers(family members = family::pci_express)
        : members_{members} {}

    /// After power-on, or CTRL.RST: nothing is pending, enabled or allocated.
    constexpr void reset() { *this = interrupt_registers{members_}; }

    /// Whether the register at `offset` is one of these.
    [[nodiscard]] constexpr bool owns(std::uint32_t offset) const {
        switch (offset) {
        case icr::offset:
        case ics::offset:
        case ims::offset:
        case imc::offset:
        case ctrl_ext::offset: return true;
        case eiac::offset:
        case iam::offset:
        case ivar::offset: return members_ == family::pci_express;
        default: return false;
        }
    }

    /// The guest reads 32 bits at `offset`; 0 where nothing is to be read.
    [[nodiscard]] constexpr std::uint32_t read(std::uint32_t offset) {
        if (!owns(offset)) {
            return 0;
        }
        switch (offset) {
        case icr::offset: return read_icr();
        // Write-only by the datasheet; silicon shows ICR there without the effects of reading it.
        case ics::offset: return shown_causes();
        case ims::offset: return enabled_;
        case eiac::offset: return auto_clear_;
        case iam::offset: return auto_mask_;
        case ivar::offset: return allocation_.raw;
        case ctrl_ext::offset: return control_.raw;
        default: return 0;
        }
    }

    /// The guest writes 32 bits at `offset`; ignored where nothing is to be written. Reserved bits
    /// stay 0, apart from those of CTRL_EXT and IAM, which keep what is written.
    constexpr void write(std::uint32_t offset, std::uint32_t value) {
        if (!owns(offset)) {
            return;
        }
        switch (offset) {
        case icr::offset:
            acknowledge();
            causes_ &= ~value;
            break;
        case ics::offset: raise(icr{value}); break;
        case ims::offset: {
            const std::uint32_t newly = value & implemented() & ~enabled_;
            enabled_ |= newly;
            unsent_ |= newly; // what waited behind the mask
            break;
        }
        case imc::offset: enabled_ &= ~value; break;
        case eiac::offset: auto_clear_ = value & message_causes; break;
        case iam::offset: auto_mask_ = value; break;
        case ivar::offset: allocation_ = ivar{}.after_write(value); break;
        case ctrl_ext::offset:
            // Both of these clear themselves, at once here.
            control_ = ctrl_ext{value}.with(ctrl_ext::asdchk(false), ctrl_ext::ee_rst(false));
            break;
        default: break;
        }
    }

    /// Something happened. Causes that the family does not have are dropped. Those that have no
    /// entry in IVAR (LSC, RXO, MDAC, SRPD, ACK and MNG) also raise OTHER, whether they are enabled
    /// or not, and again each time.
    constexpr void raise(icr causes) {
        std::uint32_t raised = causes.raw & implemented();
        if (members_ == family::pci_express && (raised & other_causes) != 0) {
            raised |= icr{icr::other(true)}.raw;
        }
        unsent_ |= raised & ~causes_;
        causes_ |= raised;
    }

    /// Whether INTx is asserted: a cause is pending that is enabled. Bit 31 of ICR says the same.
    [[nodiscard]] constexpr bool asserted() const { return (causes_ & enabled_) != 0; }

    /// Whether a message (MSI) is to be sent now: an enabled cause became pending, or a pending one
    /// enabled, since the last message. The caller sends it.
    [[nodiscard]] constexpr bool take_message() {
        const std::uint32_t due = causes_ & enabled_ & unsent_;
        unsent_ &= ~due;
        return due != 0;
    }

    /// The vectors (MSI-X) that have a message to send now, bit n for vector n. Causes without a
    /// valid entry in IVAR have none, nor have those of a vector that does not exist.
    [[nodiscard]] constexpr std::uint8_t due_vectors() const {
        unsigned due = 0;
        for (unsigned entry = 0; entry < entries; ++entry) {
            if ((causes_ & enabled_ & unsent_ & cause_of(entry)) != 0) {
                due |= vector_of(entry);
            }
        }
        return static_cast<std::uint8_t>(due);
    }

    /// Those of due_vectors() that are in `allowed` (a vector that EITR holds back is not): the
    /// caller sends their messages, also to a vector that the guest has masked in its MSI-X table,
    /// where it becomes a pending bit. With the message the causes behind it are cleared that are
    /// in EIAC, and with CTRL_EXT.EIAME the vector's causes are disabled that are in IAM.
    [[nodiscard]] constexpr std::uint8_t take_vectors(std::uint8_t allowed = all_vectors) {
        const unsigned sent = due_vectors() & unsigned{allowed};
        std::uint32_t of_sent = 0;
        for (unsigned entry = 0; entry < entries; ++entry) {
            if ((vector_of(entry) & sent) != 0) {
                of_sent |= cause_of(entry);
            }
        }
        const std::uint32_t reported = causes_ & enabled_ & of_sent;
        unsent_ &= ~reported;
        // The datasheet says that EIAC clears the bits in IMS, too. Silicon does so only by EIAME
        // and IAM, as Linux found, and its older drivers never enable a queue's cause a second
        // time. A guest that trusts the datasheet sees a superfluous message at worst.
        causes_ &= ~(reported & auto_clear_);
        if (control_[ctrl_ext::eiame]) {
            enabled_ &= ~(of_sent & auto_mask_);
        }
        return static_cast<std::uint8_t>(sent);
    }

    /// What is allocated, with INT_ON_ALL_WB.
    [[nodiscard]] constexpr ivar allocation() const { return allocation_; }

    friend constexpr bool operator==(const interrupt_registers&,
                                     const interrupt_registers&) = default;

private:
    static constexpr unsigned entries = 5; ///< of IVAR, in the order of bits 20 to 24 of ICR
    static constexpr std::uint8_t all_vectors = (1U << msi_x_vectors) - 1;
    static constexpr std::uint32_t message_causes =
        icr{icr::rxq0(true), icr::rxq1(true), icr::txq0(true), icr::txq1(true), icr::other(true)}
            .raw;
    static constexpr std::uint32_t other_causes =
        icr{icr::lsc(true),  icr::rxo(true), icr::mdac(true),
            icr::srpd(true), icr::ack(true), icr::mng(true)}
            .raw;
    static constexpr std::uint32_t pci_express_causes =
        icr::fields.mask_of(access::write_1_to_clear) & ~icr{icr::int_asserted(true)}.raw;
    /// Bits 16:0 without 5, 8 and 11: with RXSEQ, RXCFG, PHYINT and GPI, which the 82574 lacks.
    static constexpr std::uint32_t pci_causes = 0x0001'F6DF;

    [[nodiscard]] constexpr std::uint32_t implemented() const {
        return members_ == family::pci_express ? pci_express_causes : pci_causes;
    }
    [[nodiscard]] constexpr std::uint32_t shown_causes() const {
        const bool shown = members_ == family::pci_express && asserted();
        return causes_ | (shown ? icr{icr::int_asserted(true)}.raw : 0);
    }

    /// The datasheet has three cases: IMS is 0, and the read clears; the interrupt is asserted with
    /// auto-mask, and the read clears and masks; it is not asserted, and nothing happens. It leaves
    /// out an asserted interrupt without auto-mask: there the read clears as well, by the manual of
    /// the family's older members and by what drivers rely on.
    constexpr std::uint32_t read_icr() {
        const std::uint32_t shown = shown_causes();
        const bool clears = members_ == family::pci || enabled_ == 0 || asserted();
        acknowledge();
        if (clears) {
            causes_ = 0;
        }
        return shown;
    }

    /// Reading or writing ICR while the interrupt is asserted writes IAM to IMC, with
    /// CTRL_EXT.IAME.
    constexpr void acknowledge() {
        if (members_ == family::pci_express && control_[ctrl_ext::iame] && asserted()) {
            enabled_ &= ~auto_mask_;
        }
    }

    static constexpr std::uint32_t cause_of(unsigned entry) {
        return icr{icr::rxq0(true)}.raw << entry;
    }
    /// The vector of an entry of IVAR, as a bitmap of one vector or none.
    [[nodiscard]] constexpr unsigned vector_of(unsigned entry) const {
        const std::uint32_t allocated = allocation_.raw >> 4 * entry & 0xF;
        const bool valid = (allocated & 8) != 0;
        return valid ? 1U << (allocated & 7) & all_vectors : 0;
    }

    family members_;
    std::uint32_t causes_ = 0;     ///< ICR, without bit 31
    std::uint32_t enabled_ = 0;    ///< IMS
    std::uint32_t unsent_ = 0;     ///< causes that no message told of since they became pending
    std::uint32_t auto_clear_ = 0; ///< EIAC
    std::uint32_t auto_mask_ = 0;  ///< IAM
    ivar allocation_{};
    ctrl_ext control_{};
};

} // namespace pt::e1000e
