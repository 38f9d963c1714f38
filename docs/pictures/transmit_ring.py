#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Draws docs/pictures/transmit_ring.svg: one packet through the transmit ring, with the registers at each step.

    docs/pictures/transmit_ring.py > docs/pictures/transmit_ring.svg
"""

WIDTH, TOP, STEP, CELL, COUNT = 980, 126, 100, 44, 8
RING = 262  # where the strip of descriptors begins
TABLE = 634  # where the registers and the words begin
INK, FAINT, RED = "#1b2733", "#42536b", "#b3261e"
HEAD, TAIL = "#42536b", "#6b3fa0"
FILL = {"free": "#ffffff", "written": "#fdf0c8", "device": "#cfe2f7", "sent": "#dcd6ea", "done": "#c9ebd0"}
SIDE = {"driver": ("#2f6db3", "#eef4fb"), "device": ("#b9772a", "#fdf5ea")}

# (who acts, what it does, descriptors, TDH, TDT, what changed, words)
STEPS = [
    ("driver", "start()", {}, 0, 0, "TDBA TDLEN TDH TDT",
     ["The registers are written while TCTL.EN is clear.", "Head equals tail: the ring is empty."]),
    ("driver", "enqueue(3 fragments)", {0: "written", 1: "written", 2: "written"}, 0, 0, "",
     ["Three descriptors in memory; the last one has", "EOP and RS. The device does not know of them."]),
    ("driver", "advance_tail()", {0: "device", 1: "device", 2: "device"}, 0, 3, "TDT",
     ["A release barrier, then the tail: one register", "write. From head to tail all is the device's."]),
    ("device", "fetches, sends", {0: "sent", 1: "sent", 2: "sent"}, 3, 3, "TDH",
     ["Descriptors, then buffers, are read by DMA; the", "frame leaves. Software must not go by the head."]),
    ("device", "writes back", {0: "sent", 1: "sent", 2: "done"}, 3, 3, "",
     ["DD, only where RS was asked; then the cause", "TXDW in ICR, and an interrupt if IMS allows it."]),
    ("driver", "reclaim()", {}, 3, 3, "",
     ["DD is seen; an acquire barrier; the cookie goes", "back, and with it all three buffers. Empty again."]),
    ("driver", "later: a full ring", {i: "device" for i in (3, 4, 5, 6, 7, 0, 1)}, 3, 2, "TDT",
     ["After index 7 comes index 0. A ring of 8 holds 7:", "with 8, head would equal tail, and that is empty."]),
]


def text(x, y, words, size=14, anchor="middle", weight="normal", fill=INK, family="sans-serif"):
    words = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return (f'<text x="{x}" y="{y}" font-family="{family}" font-size="{size}" font-weight="{weight}" '
            f'text-anchor="{anchor}" fill="{fill}">{words}</text>')


def box(x, y, width, height, fill, stroke="#8496aa", radius=0):
    return (f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" fill="{fill}" '
            f'stroke="{stroke}"/>')


def pointer(index, y, down, name, colour):
    """A head comes from above its descriptor, a tail from below."""
    x = RING + index * CELL + CELL / 2
    tip, end = (y, y - 15) if down else (y + 40, y + 55)
    word = end - 4 if down else end + 12
    return (f'<line x1="{x}" y1="{end}" x2="{x}" y2="{tip + (-2 if down else 2)}" stroke="{colour}" '
            f'stroke-width="2" marker-end="url(#{name})"/>'
            + text(x + 6, word + (9 if down else -5), name, 12, "start", "bold", colour))


def step(number, y, who, call, state, head, tail, changed, words):
    colour, fill = SIDE[who]
    out = [box(14, y - 28, WIDTH - 28, STEP - 8, fill, "none", 8),
           f'<circle cx="38" cy="{y + 6}" r="12" fill="{colour}"/>',
           text(38, y + 11, str(number), 14, weight="bold", fill="#ffffff"),
           text(60, y + 2, "the device" if who == "device" else "the driver", 13, "start", fill=colour),
           text(60, y + 21, call, 14, "start", "bold", family="monospace" if "(" in call else "sans-serif")]
    for i in range(COUNT):
        kind = state.get(i, "free")
        out.append(box(RING + i * CELL, y, CELL, 38, FILL[kind]))
        if kind == "done":
            out.append(text(RING + i * CELL + CELL / 2, y + 24, "DD", 14, weight="bold"))
        elif kind != "free" and state.get((i + 1) % COUNT, "free") == "free" and number < 7:
            out.append(text(RING + i * CELL + CELL / 2, y + 16, "EOP", 11))
            out.append(text(RING + i * CELL + CELL / 2, y + 30, "RS", 11))
    out.append(pointer(head, y, True, "TDH", HEAD))
    out.append(pointer(tail, y, False, "TDT", TAIL))

    # The four registers of the figure, the new ones bold.
    for i, (name, value) in enumerate((("TDBA", "0x1000"), ("TDLEN", "0x80"), ("TDH", str(head)), ("TDT", str(tail)))):
        x = TABLE + (0, 118, 210, 266)[i]
        new = name in changed.split()
        out.append(text(x, y + 2, f"{name} {value}", 13, "start", "bold" if new else "normal",
                        RED if new else FAINT, "monospace"))
    out.extend(text(TABLE, y + 24 + 17 * i, row, 13, "start") for i, row in enumerate(words))
    return "".join(out)


def main():
    height = TOP + STEP * len(STEPS) + 22
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
           '<!-- SPDX-License-Identifier: BSL-1.0 -->',
           '<title>One packet of three fragments through a transmit ring of eight descriptors</title>',
           '<defs>']
    for name, colour in (("TDH", FAINT), ("TDT", TAIL)):
        out.append(f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="5" markerHeight="5" '
                   f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>')
    out += ['</defs>', f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            text(14, 30, "One packet through the ring", 18, "start", "bold"),
            text(14, 50, "three fragments, a ring of 8", 13, "start", fill=FAINT),
            text(RING - 10, 88, "index", 13, "end", fill=FAINT), text(RING - 10, 70, "address", 13, "end", fill=FAINT),
            text(TABLE, 88, "registers after the step (red: changed by it)", 13, "start", fill=FAINT)]
    for i in range(COUNT):
        x = RING + i * CELL + CELL / 2
        out.append(text(x, 88, str(i), 14, weight="bold"))
        out.append(text(x, 70, f"+0x{i * 16:02X}", 11, fill=FAINT, family="monospace"))
    out.append(text(RING + 5, 50, "TDBA", 12, "start", "bold", FAINT))
    out.append(f'<line x1="{RING}" y1="40" x2="{RING}" y2="94" stroke="{FAINT}"/>')
    for number, row in enumerate(STEPS, 1):
        out.append(step(number, TOP + (number - 1) * STEP, *row))

    y = TOP + STEP * len(STEPS) - 16
    x = 60
    for kind, words in (("free", "free"), ("written", "written, not announced"), ("device", "the device's"),
                        ("sent", "read by the device"), ("done", "DD written back")):
        out.append(box(x, y, 22, 18, FILL[kind]))
        out.append(text(x + 30, y + 14, words, 13, "start", fill=FAINT))
        x += 44 + 8 * len(words) + 14
    out.append("</svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
