#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Draws docs/pictures/interrupt.svg: the states of an interrupt from the wire to the guest's handler and its EOI.

    docs/pictures/interrupt.py > docs/pictures/interrupt.svg
"""

WIDTH, HEIGHT = 980, 700
INK, FAINT = "#1b2733", "#42536b"


def text(x, y, words, size=14, anchor="middle", weight="normal", fill=INK, family="sans-serif"):
    words = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return (f'<text x="{x}" y="{y}" font-family="{family}" font-size="{size}" font-weight="{weight}" '
            f'text-anchor="{anchor}" fill="{fill}">{words}</text>')


def lines(x, y, rows, size=12, anchor="middle", fill=FAINT, step=16):
    return "".join(text(x, y + i * step, row, size, anchor, fill=fill) for i, row in enumerate(rows))


def box(x, y, width, height, title, rows, fill="#ffffff", stroke="#9fb0c3"):
    middle = x + width / 2
    return (f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" fill="{fill}" stroke="{stroke}"/>'
            + text(middle, y + 24, title, 15, weight="bold") + lines(middle, y + 43, rows))


def arrow(points, dashed=""):
    path = "M" + "L".join(f"{x} {y}" for x, y in points)
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="{FAINT}" stroke-width="1.6"{dash} marker-end="url(#head)"/>'


def band(y, height, name, at, fill):
    return (f'<rect x="8" y="{y}" width="{WIDTH - 16}" height="{height}" rx="9" fill="{fill}" stroke="#d5dde6"/>'
            + text(at, y + 20, name, 13, "start", "bold", FAINT))


def main():
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
           '<!-- SPDX-License-Identifier: BSL-1.0 -->',
           '<title>An interrupt from the wire to the handler</title>',
           '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
           f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{FAINT}"/></marker></defs>',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
           band(8, 112, "where it comes from", 40, "#fdf5ea"),
           band(130, 118, "any processor, without a lock", 622, "#eef8f0"),
           band(258, 300, "the vCPU's own processor, between exit and entry", 450, "#eef4fb"),
           band(568, 124, "the guest", 300, "#f6f0fa")]

    # Sources.
    sources = (("MSI", ["host_vector_routes:", "host vector to message"], 40),
               ("INTx, a wire", ["level_route: mask at the", "host, assert the line"], 275),
               ("IPI", ["ICR: effect, then bus"], 510),
               ("timer, LVT", ["local_apic itself"], 745))
    for title, rows, x in sources:
        out.append(box(x, 36, 195, 76, title, rows, stroke="#d9b987"))
    for x in (137, 372, 607):
        out.append(arrow([(x, 112), (x, 158)]))
    out.append(arrow([(842, 112), (842, 288)]))
    out.append(text(848, 205, "accept", 12, "start", fill=FAINT))

    # The inbox.
    out.append(box(40, 160, 662, 76, "posted: lapic::inbox",
                   ["PIR bit (edge) or level bit, then ON; the first one since the last harvest notifies: the vCPU leaves",
                    "the guest or wakes. Under SN nobody is notified. Dropped here: APIC disabled, vector below 16."],
                   stroke="#86b894"))
    out.append(arrow([(371, 236), (371, 288)]))
    out.append(text(363, 278, "harvest: clear ON, barrier, take PIR", 12, "end", fill=FAINT))

    # The owner's side.
    out.append(box(40, 290, 902, 62, "pending: IRR (TMR: 1 for level)",
                   ["a second one of the same vector merges with the first; nothing leaves but by acknowledge or reset"],
                   stroke="#7f9fc6"))
    out.append(box(40, 396, 250, 72, "waits",
                   ["class not above PPR: TPR threshold", "IF clear or blocked: interrupt window"], stroke="#7f9fc6"))
    out.append(arrow([(120, 352), (120, 396)]))
    out.append(text(128, 379, "not now", 12, "start", fill=FAINT))
    out.append(arrow([(210, 396), (210, 352)], dashed="yes"))
    out.append(text(218, 379, "exit", 12, "start", fill=FAINT))

    out.append(box(360, 396, 262, 72, "delivered",
                   ["injector::before_entry: IRR to ISR; then", "entry_of (VMX), injection_of (SVM)"], stroke="#7f9fc6"))
    out.append(arrow([(491, 352), (491, 396)]))
    out.append(text(499, 379, "class above PPR, IF set, nothing blocks", 12, "start", fill=FAINT))

    out.append(box(690, 396, 252, 72, "interrupted delivery",
                   ["exit in its middle (EPT violation, ...)", "interrupted_event: goes first next time"], stroke="#7f9fc6"))
    out.append(arrow([(622, 440), (690, 440)]))
    out.append(arrow([(690, 416), (622, 416)], dashed="yes"))

    # The guest.
    out.append(box(360, 596, 262, 76, "in service: ISR",
                   ["the guest's handler runs;", "PPR holds back its class and below"], stroke="#b59ac9"))
    out.append(arrow([(491, 468), (491, 596)]))
    out.append(text(499, 540, "VM entry", 12, "start", fill=FAINT))

    out.append(box(40, 596, 250, 76, "done",
                   ["highest of ISR cleared, PPR falls:", "what waits is looked at again"], stroke="#b59ac9"))
    out.append(arrow([(360, 634), (290, 634)]))
    out.append(text(325, 626, "EOI", 12, fill=FAINT))

    out.append(box(690, 596, 252, 76, "level only: EOI broadcast",
                   ["deassert, unmask at the host: a device", "that still asserts comes again"], stroke="#b59ac9"))
    out.append(arrow([(622, 634), (690, 634)]))
    out.append(text(656, 626, "EOI", 12, fill=FAINT))

    # The broadcast leads back to the wire, and "done" to what waits.
    out.append(arrow([(942, 634), (966, 634), (966, 24), (372, 24), (372, 36)], dashed="yes"))
    out.append(arrow([(24, 634), (24, 432), (40, 432)], dashed="yes").replace("M24 634", "M40 634L24 634"))
    out.append(lines(60, 500, ["solid: the interrupt moves on", "dashed: looked at again"], anchor="start"))
    out.append("</svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
