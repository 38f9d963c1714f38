#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Draws docs/pictures/path.svg: what lies between a guest and its device, and which header of pt is there.

    docs/pictures/path.py > docs/pictures/path.svg
"""

WIDTH, LANE, TOP, STEP = 960, 150, 86, 98
COLUMNS = {"guest": 40, "vmm": 350, "device": 690}
BOX = {"guest": 210, "vmm": 240, "device": 230}

# (what the guest or the device does, arrow, what pt puts there, arrow, what it reaches)
ROWS = [
    ("1", "OUT 0xCF8, IN 0xCFC", "exit", "pci::config_ports", "decodes, asks a config_access", "asks", "configuration space"),
    ("2", "IN, OUT at the I/O BAR", "no exit", "vmx::io_bitmap", "bit clear: open", "direct", "I/O registers"),
    ("3", "load, store at a BAR", "no exit", "paging::table, EPT", "gpa to hpa, uncacheable", "direct", "memory registers"),
    ("4", "the guest's memory", "DMA", "paging::table, VT-d", "iova to hpa, or a fault", "DMA", "bus master"),
    ("5", "e1000e::tx_ring", "DMA", "the same tables", "descriptors, packets, DD", "DMA", "transmit engine"),
    ("6", "handler, EOI", "injected", "lapic::injector", "0x80000000 | vector", "MSI", "interrupt cause"),
]
BACKWARDS = {"4", "5", "6"}  # the device begins


def text(x, y, words, size=14, anchor="middle", weight="normal", fill="#1b2733", family="sans-serif"):
    return (f'<text x="{x}" y="{y}" font-family="{family}" font-size="{size}" font-weight="{weight}" '
            f'text-anchor="{anchor}" fill="{fill}">{words.replace("&", "&amp;")}</text>')


def box(x, y, width, height, fill, stroke):
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" fill="{fill}" stroke="{stroke}"/>'


def arrow(x1, x2, y, label, backwards):
    start, end = (x2, x1) if backwards else (x1, x2)
    return (f'<line x1="{start}" y1="{y}" x2="{end}" y2="{y}" stroke="#42536b" stroke-width="1.6" '
            f'marker-end="url(#head)"/>' + text((x1 + x2) / 2, y - 7, label, 12, fill="#42536b"))


def main():
    height = TOP + STEP * len(ROWS) + 10
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
           '<!-- SPDX-License-Identifier: BSL-1.0 -->',
           '<title>One device, one guest: the six parts of the path</title>',
           '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
           'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="#42536b"/></marker></defs>',
           f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>']
    for name, title in (("guest", "guest"), ("vmm", "VMM, with pt"), ("device", "device")):
        x, width = COLUMNS[name], BOX[name]
        fill = {"guest": "#eef4fb", "vmm": "#eef8f0", "device": "#fdf5ea"}[name]
        out.append(box(x - 14, 16, width + 28, height - 32, fill, "#d5dde6"))
        out.append(text(x + width / 2, 44, title, 18, weight="bold"))
    for i, (number, guest, first, part, note, second, device) in enumerate(ROWS):
        y = TOP + i * STEP
        middle = y + 30
        out.append(text(COLUMNS["guest"] - 2, y - 4, number, 13, "start", "bold", "#42536b"))
        for name, words, small in (("guest", guest, ""), ("vmm", part, note), ("device", device, "")):
            x, width = COLUMNS[name], BOX[name]
            out.append(box(x, y, width, 60, "#ffffff", "#9fb0c3"))
            out.append(text(x + width / 2, middle + (5 if not small else -3), words, 14,
                            family="monospace" if "::" in words else "sans-serif"))
            if small:
                out.append(text(x + width / 2, middle + 17, small, 12, fill="#42536b"))
        back = number in BACKWARDS
        out.append(arrow(COLUMNS["guest"] + BOX["guest"] + 2, COLUMNS["vmm"] - 2, middle, first, back))
        out.append(arrow(COLUMNS["vmm"] + BOX["vmm"] + 2, COLUMNS["device"] - 2, middle, second, back))
    out.append("</svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
