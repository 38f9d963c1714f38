#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Draws docs/pictures/two_guests.svg: the DMA of two guests' devices, without remapping and with it.

    docs/pictures/two_guests.py > docs/pictures/two_guests.svg
"""

WIDTH, HEIGHT = 960, 560
INK, SOFT, BAD, GOOD = "#1b2733", "#42536b", "#b3261e", "#1f7a3d"
GUEST = {"A": ("#e3eefb", "#7fa6d6"), "B": ("#e6f5e9", "#7fbf92"), "host": ("#f3eee6", "#bfae90")}


def text(x, y, words, size=14, anchor="middle", weight="normal", fill=INK, family="sans-serif"):
    return (f'<text x="{x}" y="{y}" font-family="{family}" font-size="{size}" font-weight="{weight}" '
            f'text-anchor="{anchor}" fill="{fill}">{words}</text>')


def box(x, y, width, height, fill, stroke="#9fb0c3"):
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{stroke}"/>'


def arrow(points, colour, head):
    way = " ".join(f"{x},{y}" for x, y in points)
    return (f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="1.8" '
            f'marker-end="url(#{head})"/>')


def cross(x, y):
    return (f'<path d="M{x - 6} {y - 6}L{x + 6} {y + 6}M{x - 6} {y + 6}L{x + 6} {y - 6}" '
            f'stroke="{BAD}" stroke-width="3"/>')


def memory(x, y, height):
    """Host memory, from the top: host, guest A, guest B, host."""
    out = []
    part = height / 4
    for i, (owner, words) in enumerate((("host", "host"), ("A", "guest A"), ("B", "guest B"), ("host", "host"))):
        out.append(box(x, y + i * part, 150, part - 6, *GUEST[owner]))
        out.append(text(x + 75, y + i * part + part / 2 + 2, words))
    return out


def device(x, y, name, owner):
    fill, stroke = GUEST[owner]
    return [box(x, y, 150, 52, fill, stroke), text(x + 75, y + 22, name, 14, weight="bold"),
            text(x + 75, y + 42, f"given to guest {owner}", 12, fill=SOFT)]


def without(y):
    out = [text(30, y - 16, "Without remapping: an address on the bus is a host address", 16, "start", "bold")]
    out += device(30, y + 20, "NIC 00:05.0", "A") + device(30, y + 118, "disk 00:06.0", "B")
    out += memory(770, y, 190)
    for row, from_y in ((0, y + 40), (1, y + 50), (2, y + 60)):
        out.append(arrow([(182, from_y), (764, y + 22 + row * 47.5)], BAD, "bad"))
    out.append(arrow([(182, y + 144), (764, y + 165)], BAD, "bad"))
    out.append(arrow([(182, y + 136), (764, y + 76)], BAD, "bad"))
    out.append(text(470, y + 20, "whatever the guest writes into a descriptor", 13, fill=BAD))
    return out


def inside(y):
    out = [text(30, y - 16, "With it: who asks decides which tables are walked", 16, "start", "bold")]
    out += device(30, y + 4, "NIC 00:05.0", "A") + device(30, y + 82, "disk 00:06.0", "B")
    out += [box(30, y + 160, 150, 44, "#ffffff"), text(105, y + 187, "any other", 14)]
    out += [box(260, y - 2, 150, 212, "#ffffff"), text(335, y + 20, "root table", 14, weight="bold"),
            text(335, y + 38, "by source id", 12, fill=SOFT)]
    for at, words in ((y + 54, "00:05.0: domain 7"), (y + 106, "00:06.0: domain 8"), (y + 158, "no entry")):
        out += [box(270, at, 130, 34, "#f7f9fb"), text(335, at + 22, words, 13)]
    for at, owner, words in ((y + 6, "A", "domain 7"), (y + 92, "B", "domain 8")):
        out += [box(490, at, 170, 64, *GUEST[owner]), text(575, at + 26, words, 14, weight="bold"),
                text(575, at + 46, "second-stage tables", 12, fill=SOFT)]
    out += memory(770, y, 210)
    out += [arrow([(182, y + 30), (264, y + 68)], SOFT, "head"), arrow([(182, y + 108), (264, y + 122)], SOFT, "head"),
            arrow([(182, y + 182), (264, y + 176)], SOFT, "head"),
            arrow([(402, y + 70), (484, y + 40)], GOOD, "good"), arrow([(402, y + 124), (484, y + 124)], GOOD, "good"),
            arrow([(662, y + 40), (764, y + 78)], GOOD, "good"), arrow([(662, y + 124), (764, y + 130)], GOOD, "good")]
    out += [arrow([(402, y + 176), (470, y + 184)], BAD, "bad"), cross(484, y + 186),
            text(500, y + 191, "blocked, and recorded as a fault", 13, "start", fill=BAD)]
    out += [arrow([(662, y + 18), (716, y + 14)], BAD, "bad"), cross(730, y + 13),
            text(662, y - 4, "what is not mapped", 12, "start", fill=BAD)]
    return out


def main():
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
           '<!-- SPDX-License-Identifier: BSL-1.0 -->', '<title>Two guests and their DMA</title>', '<defs>']
    for name, colour in (("head", SOFT), ("bad", BAD), ("good", GOOD)):
        out.append(f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
                   f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>')
    out += ['</defs>', f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>']
    out += without(60) + inside(330)
    out.append("</svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
