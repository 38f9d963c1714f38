// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

/// Offsets and bits of a remapping unit [vt-d, "Register Descriptions"] as plain numbers, so that a
/// wrong one in pt does not agree with itself.
namespace vtd_model {

inline constexpr std::uint32_t VER = 0x00;
inline constexpr std::uint32_t CAP = 0x08;
inline constexpr std::uint32_t ECAP = 0x10;
inline constexpr std::uint32_t GCMD = 0x18;
inline constexpr std::uint32_t GSTS = 0x1C;
inline constexpr std::uint32_t RTADDR = 0x20;
inline constexpr std::uint32_t CCMD = 0x28;
inline constexpr std::uint32_t FSTS = 0x34;
inline constexpr std::uint32_t FECTL = 0x38;
inline constexpr std::uint32_t FEDATA = 0x3C;
inline constexpr std::uint32_t FEADDR = 0x40;
inline constexpr std::uint32_t FEUADDR = 0x44;
inline constexpr std::uint32_t PMEN = 0x64;
inline constexpr std::uint32_t PLMBASE = 0x68;
inline constexpr std::uint32_t PLMLIMIT = 0x6C;
inline constexpr std::uint32_t PHMBASE = 0x70;
inline constexpr std::uint32_t PHMLIMIT = 0x78;
inline constexpr std::uint32_t IQH = 0x80;
inline constexpr std::uint32_t IQT = 0x88;
inline constexpr std::uint32_t IQA = 0x90;
inline constexpr std::uint32_t ICS = 0x9C;
inline constexpr std::uint32_t IECTL = 0xA0;
inline constexpr std::uint32_t IEDATA = 0xA4;
inline constexpr std::uint32_t IEADDR = 0xA8;
inline constexpr std::uint32_t IEUADDR = 0xAC;
inline constexpr std::uint32_t IQERCD = 0xB0;
inline constexpr std::uint32_t IRTA = 0xB8;
inline constexpr std::uint32_t PRS = 0xDC;
inline constexpr std::uint32_t PECTL = 0xE0;
inline constexpr std::uint32_t PEDATA = 0xE4;
inline constexpr std::uint32_t PEADDR = 0xE8;
inline constexpr std::uint32_t PEUADDR = 0xEC;

// GCMD and GSTS
inline constexpr std::uint32_t TE = 1U << 31;
inline constexpr std::uint32_t SRTP = 1U << 30;
inline constexpr std::uint32_t SFL = 1U << 29;
inline constexpr std::uint32_t EAFL = 1U << 28;
inline constexpr std::uint32_t WBF = 1U << 27;
inline constexpr std::uint32_t QIE = 1U << 26;
inline constexpr std::uint32_t IRE = 1U << 25;
inline constexpr std::uint32_t SIRTP = 1U << 24;
inline constexpr std::uint32_t CFI = 1U << 23;
inline constexpr std::uint32_t persistent = TE | EAFL | QIE | IRE | CFI;
inline constexpr std::uint32_t once = SRTP | SFL | WBF | SIRTP;

// FSTS
inline constexpr std::uint32_t PFO = 1U << 0;
inline constexpr std::uint32_t PPF = 1U << 1;
inline constexpr std::uint32_t IQE = 1U << 4;
inline constexpr std::uint32_t ICE = 1U << 5;
inline constexpr std::uint32_t ITE = 1U << 6;
inline constexpr std::uint32_t PRO = 1U << 7;

// PMEN
inline constexpr std::uint32_t EPM = 1U << 31;
inline constexpr std::uint32_t PROTECTED = 1U << 0; ///< PRS, "protected region status"

// FECTL, IECTL, PECTL
inline constexpr std::uint32_t IM = 1U << 31;
inline constexpr std::uint32_t IP = 1U << 30;

/// CAP and ECAP as QEMU 7.2 reports them: 65536 domains, 3 and 4 levels, MGAW 48, one fault record
/// at 0x220, 2-MiB and 1-GiB pages, page-selective invalidation up to 2^18 pages, draining; queued
/// invalidation, interrupt remapping, pass-through, IVA at 0xF0.
inline constexpr std::uint64_t qemu_cap = 0x00d2'008c'222f'0606;
inline constexpr std::uint64_t qemu_ecap = 0x0000'0000'00f0'0f4a;

inline constexpr std::uint64_t cap_rwbf = 1U << 4;
inline constexpr std::uint64_t cap_plmr = 1U << 5;
inline constexpr std::uint64_t cap_phmr = 1U << 6;
inline constexpr std::uint64_t cap_cm = 1U << 7;
inline constexpr std::uint64_t cap_fs1gp = std::uint64_t{1} << 56;
inline constexpr std::uint64_t cap_pi = std::uint64_t{1} << 59;
inline constexpr std::uint64_t cap_fs5lp = std::uint64_t{1} << 60;
inline constexpr std::uint64_t cap_esirtps = std::uint64_t{1} << 62;
inline constexpr std::uint64_t cap_esrtps = std::uint64_t{1} << 63;

inline constexpr std::uint64_t ecap_c = 1U << 0;
inline constexpr std::uint64_t ecap_qi = 1U << 1;
inline constexpr std::uint64_t ecap_dt = 1U << 2;
inline constexpr std::uint64_t ecap_ir = 1U << 3;
inline constexpr std::uint64_t ecap_eim = 1U << 4;
inline constexpr std::uint64_t ecap_pt = 1U << 6;
inline constexpr std::uint64_t ecap_sc = 1U << 7;
inline constexpr std::uint64_t ecap_nest = 1U << 26;
inline constexpr std::uint64_t ecap_prs = std::uint64_t{1} << 29;
inline constexpr std::uint64_t ecap_ers = std::uint64_t{1} << 30;
inline constexpr std::uint64_t ecap_srs = std::uint64_t{1} << 31;
inline constexpr std::uint64_t ecap_eafs = std::uint64_t{1} << 34;
inline constexpr std::uint64_t ecap_pss = std::uint64_t{0x13} << 35; ///< 20 bits of PASID
inline constexpr std::uint64_t ecap_pasid = std::uint64_t{1} << 40;
inline constexpr std::uint64_t ecap_dit = std::uint64_t{1} << 41;
inline constexpr std::uint64_t ecap_pds = std::uint64_t{1} << 42;
inline constexpr std::uint64_t ecap_smts = std::uint64_t{1} << 43;
inline constexpr std::uint64_t ecap_ssads = std::uint64_t{1} << 45;
inline constexpr std::uint64_t ecap_ssts = std::uint64_t{1} << 46;
inline constexpr std::uint64_t ecap_fsts = std::uint64_t{1} << 47;
inline constexpr std::uint64_t ecap_smpwc = std::uint64_t{1} << 48;
inline constexpr std::uint64_t ecap_rps = std::uint64_t{1} << 49;
inline constexpr std::uint64_t ecap_adms = std::uint64_t{1} << 52;

/// All that scalable mode can do.
inline constexpr std::uint64_t scalable_ecap =
    qemu_ecap | ecap_smts | ecap_ssts | ecap_fsts | ecap_nest | ecap_pasid | ecap_pss | ecap_rps |
    ecap_ers | ecap_srs | ecap_sc | ecap_dt | ecap_dit | ecap_smpwc;

} // namespace vtd_model
