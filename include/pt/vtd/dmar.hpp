// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <utility>

/// The DMA Remapping Reporting table (DMAR) [vt-d]: where firmware says which remapping units there
/// are, which devices they serve, and which memory those devices still use. dmar::read checks the
/// whole table once; after that its parts are lazy ranges over the same bytes, nothing is copied.
namespace pt::vtd {

/// Bytes that firmware wrote. Numbers in them are little-endian and lie anywhere. Nothing here ever
/// reads outside: past the end is 0, and a part is cut off there, even if the bytes change
/// meanwhile.
class firmware_bytes {
public:
    constexpr firmware_bytes() = default;
    constexpr firmware_bytes(const std::uint8_t* first, std::size_t size)
        : first_{first}, size_{size} {}

    [[nodiscard]] constexpr std::size_t size() const { return size_; }
    [[nodiscard]] constexpr std::uint8_t operator[](std::size_t offset) const {
        return offset < size_ ? first_[offset] : std::uint8_t{0};
    }
    /// The number at `offset`.
    template <std::unsigned_integral Word>
    [[nodiscard]] constexpr Word number(std::size_t offset) const {
        if (offset >= size_ || sizeof(Word) > size_ - offset) {
            std::uint64_t value = 0;
            for (std::size_t i = 0; offset < size_ && i < size_ - offset; ++i) {
                value |= std::uint64_t{first_[offset + i]} << 8 * i;
            }
            return static_cast<Word>(value);
        }
        // One expression: the compilers make one load of it, and of a loop they do not.
        const auto load = [from = first_ + offset]<std::size_t... I>(std::index_sequence<I...>) {
            return (std::uint64_t{0} | ... | (std::uint64_t{from[I]} << 8 * I));
        };
        return static_cast<Word>(load(std::make_index_sequence<sizeof(Word)>{}));
    }
    [[nodiscard]] constexpr firmware_bytes part(std::size_t offset, std::size_t size) const {
        if (offset >= size_) {
            return {};
        }
        return {first_ + offset, size < size_ - offset ? size : size_ - offset};
    }
    [[nodiscard]] constexpr firmware_bytes from(std::size_t offset) const {
        return part(offset, size_);
    }

private:
    const std::uint8_t* first_ = nullptr;
    std::size_t size_ = 0;
};

/// One step of a path: a device and a function of it, on the bus that the path has reached.
struct path_hop {
    std::uint8_t device = 0;   ///< 0..31 in a sound table; firmware may write any byte
    std::uint8_t function = 0; ///< 0..7 in a sound table

    friend constexpr bool operator==(const path_hop&, const path_hop&) = default;
};

/// The way to a device: the first hop is on the scope's start bus, every next one on the secondary
/// bus of the bridge before it. Only the bridges know these bus numbers.
class device_path {
public:
    using value_type = path_hop;

    class iterator {
    public:
        using value_type = path_hop;
        using difference_type = std::ptrdiff_t;

        constexpr iterator() = default;
        explicit constexpr iterator(firmware_bytes rest) : rest_{rest} {}

        [[nodiscard]] constexpr path_hop operator*() const { return {rest_[0], rest_[1]}; }
        constexpr iterator& operator++() {
            rest_ = rest_.from(2);
            return *this;
        }
        constexpr iterator operator++(int) {
            iterator before = *this;
            ++*this;
            return before;
        }
        friend constexpr bool operator==(const iterator& a, const iterator& b) {
            return a.rest_.size() / 2 == b.rest_.size() / 2;
        }

    private:
        firmware_bytes rest_;
    };

    constexpr device_path() = default;
    explicit constexpr device_path(firmware_bytes bytes) : bytes_{bytes} {}

    /// How many hops; one or more in every scope whose type pt knows.
    [[nodiscard]] constexpr std::size_t size() const { return bytes_.size() / 2; }
    [[nodiscard]] constexpr path_hop operator[](std::size_t hop) const {
        return {bytes_[2 * hop], bytes_[2 * hop + 1]};
    }
    [[nodiscard]] constexpr iterator begin() const { return iterator{bytes_}; }
    [[nodiscard]] constexpr iterator end() const { return {}; }

private:
    firmware_bytes bytes_;
};

/// What a device scope names. A table may hold any other number.
enum class device_scope_type : std::uint8_t {
    pci_endpoint = 1,
    pci_sub_hierarchy = 2, ///< a bridge, and everything behind it
    io_apic = 3,
    msi_capable_hpet = 4,
    acpi_namespace_device = 5,
};

/// Which device: by the way to it and, for what is no PCI function, by a number.
struct device_scope {
    device_scope_type type{};
    std::uint8_t flags = 0;          ///< only in a SIDP; 0 elsewhere
    std::uint8_t enumeration_id = 0; ///< I/O APIC id, HPET number, or device number of an ANDD
    std::uint8_t start_bus = 0;
    device_path path;
};

/// The end of the lazy ranges of a table.
struct dmar_list_end {};

/// The device scopes of one structure, as a lazy range.
class device_scope_list {
public:
    using value_type = device_scope;

    /// Bytes before the path.
    static constexpr std::size_t header_size = 6;

    class iterator {
    public:
        using value_type = device_scope;
        using difference_type = std::ptrdiff_t;

        constexpr iterator() = default;
        explicit constexpr iterator(firmware_bytes rest) : rest_{rest} {}

        [[nodiscard]] constexpr device_scope operator*() const {
            return {device_scope_type{rest_[0]}, rest_[2], rest_[4], rest_[5],
                    device_path{rest_.part(header_size, length() - header_size)}};
        }
        constexpr iterator& operator++() {
            rest_ = rest_.from(length());
            return *this;
        }
        constexpr iterator operator++(int) {
            iterator before = *this;
            ++*this;
            return before;
        }
        friend constexpr bool operator==(const iterator& a, const iterator& b) {
            return a.rest_.size() == b.rest_.size();
        }
        friend constexpr bool operator==(const iterator& at, dmar_list_end) {
            return at.rest_.size() < header_size;
        }

    private:
        /// Never below what a step forward needs: the walk ends whatever the bytes become.
        [[nodiscard]] constexpr std::size_t length() const {
            return rest_[1] < header_size ? header_size : rest_[1];
        }

        firmware_bytes rest_;
    };

    constexpr device_scope_list() = default;
    explicit constexpr device_scope_list(firmware_bytes bytes) : bytes_{bytes} {}

    [[nodiscard]] constexpr iterator begin() const { return iterator{bytes_}; }
    [[nodiscard]] constexpr dmar_list_end end() const { return {}; }

    /// Whether the scopes fill their bytes exactly. `at` is where they begin in the table, for the
    /// error: errc::malformed with the offset of a length that is too small, or odd, for its type,
    /// or of bytes at the end that are too few for a scope; errc::out_of_range with the offset of a
    /// length that runs past the end of the structure.
    [[nodiscard]] constexpr result<void> check(std::size_t at) const {
        for (firmware_bytes rest = bytes_; rest.size() != 0;) {
            if (rest.size() < header_size) {
                return error{errc::malformed, at};
            }
            const std::size_t length = rest[1];
            const auto type = static_cast<unsigned>(rest[0]);
            const bool known = type >= 1 && type <= 5;
            if (length < header_size || (known && (length < header_size + 2 || length % 2 != 0))) {
                return error{errc::malformed, at + 1};
            }
            if (length > rest.size()) {
                return error{errc::out_of_range, at + 1};
            }
            rest = rest.from(length);
            at += length;
        }
        return {};
    }

private:
    firmware_bytes bytes_;
};

/// What a remapping structure is. A table may hold any other number.
enum class remapping_structure_type : std::uint16_t {
    drhd = 0,
    rmrr = 1,
    atsr = 2,
    rhsa = 3,
    andd = 4,
    satc = 5,
    sidp = 6,
};

/// One structure of the table, whatever it is.
struct remapping_structure {
    /// Type and length.
    static constexpr std::size_t header_size = 4;

    remapping_structure_type type{};
    std::size_t offset = 0; ///< of its first byte in the table
    firmware_bytes bytes;   ///< all of it, type and length included
};

/// Flags of a DRHD.
struct drhd_flags : reg<drhd_flags, std::uint8_t> {
    using reg::reg;
    static constexpr bits<0, 0, bool, access::read_only> include_pci_all{};
    static constexpr field_list fields{include_pci_all};
};

/// DMA Remapping Hardware Unit Definition: one remapping unit and the devices that it serves.
struct drhd {
    static constexpr auto type = remapping_structure_type::drhd;
    static constexpr std::size_t least_size = 16;
    static constexpr std::size_t scopes_offset = 16;

    /// The unit serves all functions of the segment that no other unit's scopes name; its own
    /// scopes name I/O APICs and the like then.
    bool include_pci_all = false;
    std::uint16_t segment = 0;
    hpa register_base;
    std::uint64_t register_set_size = 0; ///< bytes, 4 KiB or more
    device_scope_list scopes{};

    static constexpr drhd decode(firmware_bytes bytes) {
        return {drhd_flags{bytes[4]}[drhd_flags::include_pci_all], bytes.number<std::uint16_t>(6),
                hpa{bytes.number<std::uint64_t>(8)}, 4 * KiB << (bytes[5] & 15U),
                device_scope_list{bytes.from(scopes_offset)}};
    }
};

/// Reserved Memory Region Reporting: memory that the devices in the scopes reach at any time, and
/// so must find mapped to itself, whoever owns them.
struct rmrr {
    static constexpr auto type = remapping_structure_type::rmrr;
    static constexpr std::size_t least_size = 24;
    static constexpr std::size_t scopes_offset = 24;

    std::uint16_t segment = 0;
    hpa base;
    hpa limit; ///< the last address inside
    device_scope_list scopes;

    /// The region, whole pages of 4 KiB. errc::malformed with the base when the limit lies below
    /// it, and when the region is all of the address space; errc::misaligned with the base when it
    /// does not begin and end where a page does.
    [[nodiscard]] constexpr result<range<hpa>> region() const {
        if (limit < base || limit - base == ~std::uint64_t{0}) {
            return error{errc::malformed, base.raw};
        }
        if (!base.is_aligned(4 * KiB) || !(limit + 1).is_aligned(4 * KiB)) {
            return error{errc::misaligned, base.raw};
        }
        return range<hpa>{base, limit - base + 1};
    }

    static constexpr rmrr decode(firmware_bytes bytes) {
        return {bytes.number<std::uint16_t>(6), hpa{bytes.number<std::uint64_t>(8)},
                hpa{bytes.number<std::uint64_t>(16)}, device_scope_list{bytes.from(scopes_offset)}};
    }
};

/// Flags of an ATSR.
struct atsr_flags : reg<atsr_flags, std::uint8_t> {
    using reg::reg;
    static constexpr bits<0, 0, bool, access::read_only> all_ports{};
    static constexpr field_list fields{all_ports};
};

/// Root Port ATS Capability: the root ports whose devices may use device TLBs.
struct atsr {
    static constexpr auto type = remapping_structure_type::atsr;
    static constexpr std::size_t least_size = 8;
    static constexpr std::size_t scopes_offset = 8;

    bool all_ports = false; ///< every root port of the segment
    std::uint16_t segment = 0;
    device_scope_list scopes;

    static constexpr atsr decode(firmware_bytes bytes) {
        return {atsr_flags{bytes[4]}[atsr_flags::all_ports], bytes.number<std::uint16_t>(6),
                device_scope_list{bytes.from(scopes_offset)}};
    }
};

/// Remapping Hardware Static Affinity: the NUMA domain of a unit.
struct rhsa {
    static constexpr auto type = remapping_structure_type::rhsa;
    static constexpr std::size_t least_size = 20;

    hpa register_base; ///< which unit
    std::uint32_t proximity_domain = 0;

    static constexpr rhsa decode(firmware_bytes bytes) {
        return {hpa{bytes.number<std::uint64_t>(8)}, bytes.number<std::uint32_t>(16)};
    }
};

/// ACPI Name-space Device Declaration: a device that scopes name by a number, and its ACPI name.
struct andd {
    static constexpr auto type = remapping_structure_type::andd;
    static constexpr std::size_t least_size = 8;

    std::uint8_t device_number = 0;
    firmware_bytes name; ///< characters, without the null at the end

    static constexpr andd decode(firmware_bytes bytes) {
        const firmware_bytes name = bytes.from(8);
        std::size_t size = 0;
        while (size < name.size() && name[size] != 0) {
            ++size;
        }
        return {bytes[7], name.part(0, size)};
    }
};

/// Flags of a SATC.
struct satc_flags : reg<satc_flags, std::uint8_t> {
    using reg::reg;
    static constexpr bits<0, 0, bool, access::read_only> atc_required{};
    static constexpr field_list fields{atc_required};
};

/// SoC Integrated Address Translation Cache: devices inside the chip that use device TLBs.
struct satc {
    static constexpr auto type = remapping_structure_type::satc;
    static constexpr std::size_t least_size = 8;
    static constexpr std::size_t scopes_offset = 8;

    satc_flags flags;
    std::uint16_t segment = 0;
    device_scope_list scopes;

    static constexpr satc decode(firmware_bytes bytes) {
        return {satc_flags{bytes[4]}, bytes.number<std::uint16_t>(6),
                device_scope_list{bytes.from(scopes_offset)}};
    }
};

/// SoC Integrated Device Property: the flags of its scopes say what is special about the devices.
struct sidp {
    static constexpr auto type = remapping_structure_type::sidp;
    static constexpr std::size_t least_size = 8;
    static constexpr std::size_t scopes_offset = 8;

    std::uint16_t segment = 0;
    device_scope_list scopes;

    static constexpr sidp decode(firmware_bytes bytes) {
        return {bytes.number<std::uint16_t>(6), device_scope_list{bytes.from(scopes_offset)}};
    }
};

/// A remapping structure of which pt knows the layout.
template <class S>
concept dmar_structure = requires(firmware_bytes bytes) {
    { S::type } -> std::convertible_to<remapping_structure_type>;
    { S::least_size } -> std::convertible_to<std::size_t>;
    { S::decode(bytes) } -> std::same_as<S>;
};

/// The remapping structures of a table in its order, unknown ones too, as a lazy range.
class remapping_structure_list {
public:
    using value_type = remapping_structure;

    class iterator {
    public:
        using value_type = remapping_structure;
        using difference_type = std::ptrdiff_t;

        constexpr iterator() = default;
        constexpr iterator(firmware_bytes table, std::size_t offset)
            : table_{table}, offset_{offset} {}

        [[nodiscard]] constexpr remapping_structure operator*() const {
            return {remapping_structure_type{table_.number<std::uint16_t>(offset_)}, offset_,
                    table_.part(offset_, length())};
        }
        constexpr iterator& operator++() {
            offset_ += length();
            return *this;
        }
        constexpr iterator operator++(int) {
            iterator before = *this;
            ++*this;
            return before;
        }
        friend constexpr bool operator==(const iterator& a, const iterator& b) {
            return a.offset_ == b.offset_;
        }
        friend constexpr bool operator==(const iterator& at, dmar_list_end) {
            return at.offset_ + remapping_structure::header_size > at.table_.size();
        }

    private:
        /// Never below what a step forward needs: the walk ends whatever the bytes become.
        [[nodiscard]] constexpr std::size_t length() const {
            const std::size_t said = table_.number<std::uint16_t>(offset_ + 2);
            return said < remapping_structure::header_size ? remapping_structure::header_size
                                                           : said;
        }

        firmware_bytes table_;
        std::size_t offset_ = 0;
    };

    constexpr remapping_structure_list(firmware_bytes table, std::size_t offset)
        : table_{table}, offset_{offset} {}

    [[nodiscard]] constexpr iterator begin() const { return {table_, offset_}; }
    [[nodiscard]] constexpr dmar_list_end end() const { return {}; }

private:
    firmware_bytes table_;
    std::size_t offset_;
};

/// The structures of one kind, decoded, in the order of the table, as a lazy range.
template <dmar_structure S>
class structures_of {
public:
    using value_type = S;

    class iterator {
    public:
        using value_type = S;
        using difference_type = std::ptrdiff_t;

        constexpr iterator() = default;
        explicit constexpr iterator(remapping_structure_list::iterator at) : at_{at} { seek(); }

        [[nodiscard]] constexpr S operator*() const { return S::decode((*at_).bytes); }
        constexpr iterator& operator++() {
            ++at_;
            seek();
            return *this;
        }
        constexpr iterator operator++(int) {
            iterator before = *this;
            ++*this;
            return before;
        }
        friend constexpr bool operator==(const iterator& a, const iterator& b) {
            return a.at_ == b.at_;
        }
        friend constexpr bool operator==(const iterator& at, dmar_list_end end) {
            return at.at_ == end;
        }

    private:
        constexpr void seek() {
            while (!(at_ == dmar_list_end{}) && (*at_).type != S::type) {
                ++at_;
            }
        }

        remapping_structure_list::iterator at_;
    };

    explicit constexpr structures_of(remapping_structure_list all) : all_{all} {}

    [[nodiscard]] constexpr iterator begin() const { return iterator{all_.begin()}; }
    [[nodiscard]] constexpr dmar_list_end end() const { return {}; }

private:
    remapping_structure_list all_;
};

/// Flags of the table.
struct dmar_flags : reg<dmar_flags, std::uint8_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<2, 2, bool, access::read_only> dma_ctrl_platform_opt_in{};
    static constexpr bits<1, 1, bool, access::read_only> x2apic_opt_out{};
    static constexpr bits<0, 0, bool, access::read_only> interrupt_remapping{}; ///< INTR_REMAP
    // clang-format on
    static constexpr field_list fields{dma_ctrl_platform_opt_in, x2apic_opt_out,
                                       interrupt_remapping};
};

/// The whole table. It refers to the bytes, which must outlive it.
class dmar {
public:
    /// The ACPI header, the host address width, the flags and reserved bytes.
    static constexpr std::size_t header_size = 48;
    /// Of flags().
    static constexpr std::size_t flags_offset = 37;

    constexpr dmar() = default;

    /// Checks everything whose length is told in the bytes, and so everything that a walk relies
    /// on. Bytes after the table's own length are not looked at. The error says what is wrong and
    /// at which offset:
    ///   errc::malformed      0: the signature is not "DMAR"
    ///                        4: the length is below the 48 bytes of the header
    ///                        9: the bytes do not add up to 0 (checksum)
    ///                        of a structure's or a scope's length: 0, or too small for its type
    ///                        of bytes at the end that are too few for a structure or a scope
    ///   errc::out_of_range   size: the bytes end before a header does
    ///                        4: the length is more than the bytes that are there
    ///                        of a structure's or a scope's length that runs past the end
    ///   errc::not_supported  8: revision 0
    /// Structures of unknown type, and scopes of unknown type, only need a sound length.
    [[nodiscard]] static constexpr result<dmar> read(const std::uint8_t* bytes, std::size_t size) {
        const firmware_bytes given{bytes, size};
        if (size < header_size) {
            return error{errc::out_of_range, size};
        }
        if (given.number<std::uint32_t>(0) != signature) {
            return error{errc::malformed, 0};
        }
        const std::size_t length = given.number<std::uint32_t>(4);
        if (length < header_size) {
            return error{errc::malformed, 4};
        }
        if (length > size) {
            return error{errc::out_of_range, 4};
        }
        if (given[8] == 0) {
            return error{errc::not_supported, 8};
        }
        const firmware_bytes table = given.part(0, length);
        std::uint8_t sum = 0;
        for (std::size_t i = 0; i < length; ++i) {
            sum = static_cast<std::uint8_t>(sum + table[i]);
        }
        if (sum != 0) {
            return error{errc::malformed, 9};
        }
        for (std::size_t offset = header_size; offset < length;) {
            const auto next = check_structure(table, offset);
            if (!next) {
                return next.error();
            }
            offset = *next;
        }
        return dmar{table};
    }

    [[nodiscard]] constexpr std::uint8_t revision() const { return bytes_[8]; }
    /// Who made the table, as the header of every ACPI table tells [acpi]: six and eight
    /// characters, which need not be letters, and the number of the edition. Firmware is known by
    /// them where it is known to be wrong.
    [[nodiscard]] constexpr firmware_bytes oem_id() const { return bytes_.part(10, 6); }
    [[nodiscard]] constexpr firmware_bytes oem_table_id() const { return bytes_.part(16, 8); }
    [[nodiscard]] constexpr std::uint32_t oem_revision() const {
        return bytes_.number<std::uint32_t>(24);
    }
    /// The tool that made it: four characters, and its version.
    [[nodiscard]] constexpr firmware_bytes creator_id() const { return bytes_.part(28, 4); }
    [[nodiscard]] constexpr std::uint32_t creator_revision() const {
        return bytes_.number<std::uint32_t>(32);
    }
    /// Bits of a physical address that DMA can reach; the field plus one.
    [[nodiscard]] constexpr unsigned host_address_width() const { return bytes_[36] + 1U; }
    [[nodiscard]] constexpr dmar_flags flags() const { return dmar_flags{bytes_[flags_offset]}; }

    /// All of them, unknown ones too.
    [[nodiscard]] constexpr remapping_structure_list structures() const {
        return {bytes_, header_size};
    }
    /// Those of one kind: table.each<drhd>().
    template <dmar_structure S>
    [[nodiscard]] constexpr structures_of<S> each() const {
        return structures_of<S>{structures()};
    }

private:
    static constexpr std::uint32_t signature = 0x52414D44; // "DMAR"

    explicit constexpr dmar(firmware_bytes bytes) : bytes_{bytes} {}

    template <dmar_structure S>
    static constexpr result<void> check_layout(firmware_bytes all, std::size_t offset) {
        if (all.size() < S::least_size) {
            return error{errc::malformed, offset + 2};
        }
        if constexpr (requires { S::scopes_offset; }) {
            return S::decode(all).scopes.check(offset + S::scopes_offset);
        }
        return {};
    }

    static constexpr result<void> check_known(firmware_bytes all, std::size_t offset) {
        switch (remapping_structure_type{all.number<std::uint16_t>(0)}) {
        case remapping_structure_type::drhd: return check_layout<drhd>(all, offset);
        case remapping_structure_type::rmrr: return check_layout<rmrr>(all, offset);
        case remapping_structure_type::atsr: return check_layout<atsr>(all, offset);
        case remapping_structure_type::rhsa: return check_layout<rhsa>(all, offset);
        case remapping_structure_type::andd: return check_layout<andd>(all, offset);
        case remapping_structure_type::satc: return check_layout<satc>(all, offset);
        case remapping_structure_type::sidp: return check_layout<sidp>(all, offset);
        }
        return {};
    }

    /// The offset after the structure at `offset`.
    static constexpr result<std::size_t> check_structure(firmware_bytes table, std::size_t offset) {
        const firmware_bytes rest = table.from(offset);
        if (rest.size() < remapping_structure::header_size) {
            return error{errc::malformed, offset};
        }
        const std::size_t length = rest.number<std::uint16_t>(2);
        if (length < remapping_structure::header_size) {
            return error{errc::malformed, offset + 2};
        }
        if (length > rest.size()) {
            return error{errc::out_of_range, offset + 2};
        }
        const firmware_bytes all = rest.part(0, length);
        const auto checked = check_known(all, offset);
        if (!checked) {
            return checked.error();
        }
        return offset + length;
    }

    firmware_bytes bytes_;
};

} // namespace pt::vtd
