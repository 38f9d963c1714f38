#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Draws docs/pictures/segmentation.svg: one large packet, the descriptors that name it, and the frames on the wire.

    docs/pictures/segmentation.py > docs/pictures/segmentation.svg
"""

WIDTH, HEIGHT, SCALE = 980, 616, 0.1335
IP_AT, TCP_AT = 430, 650  # where a header's fields stand
INK, FAINT = "#1b2733", "#42536b"
HEADER, SHADES, FCS = "#fdf0c8", ("#cfe2f7", "#c9ebd0", "#e7d9f0"), "#e4e7eb"

# The packet: prototype header of 54 bytes, 4,000 bytes of payload in two pages.
HDRLEN, MSS, PAYLEN = 54, 1460, 4000
IPCSS, SEQUENCE, IDENTIFICATION = 14, 1000, 7
PAGES = (2800, 1200)


def text(x, y, words, size=14, anchor="middle", weight="normal", fill=INK, family="sans-serif"):
    words = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return (f'<text x="{x}" y="{y}" font-family="{family}" font-size="{size}" font-weight="{weight}" '
            f'text-anchor="{anchor}" fill="{fill}">{words}</text>')


def rows(x, y, lines, size=13, anchor="start", fill=INK, step=18, family="sans-serif"):
    return "".join(text(x, y + i * step, line, size, anchor, fill=fill, family=family) for i, line in enumerate(lines))


def box(x, y, width, height, fill, stroke="#8496aa", radius=0):
    return (f'<rect x="{x:g}" y="{y}" width="{width:g}" height="{height}" rx="{radius}" fill="{fill}" '
            f'stroke="{stroke}"/>')


def band(y, height, number, title, fill):
    return (box(8, y, WIDTH - 16, height, fill, "#d5dde6", 9)
            + text(24, y + 24, number, 15, "start", "bold", FAINT)
            + text(44, y + 24, title, 14, "start", "bold", FAINT))


def arrow(x1, y1, x2, y2):
    return (f'<line x1="{x1:g}" y1="{y1}" x2="{x2:g}" y2="{y2}" stroke="{FAINT}" stroke-width="1.5" '
            'marker-end="url(#head)"/>')


def main():
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
           '<!-- SPDX-License-Identifier: BSL-1.0 -->',
           '<title>Segmentation: one large packet, its descriptors, and the frames on the wire</title>',
           '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
           f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{FAINT}"/></marker></defs>',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
           band(8, 128, "1", "in the ring: a context, and a data descriptor for each buffer", "#eef8f0"),
           band(146, 186, "2", "in memory: one packet", "#eef4fb"),
           band(344, 264, "3", "on the wire: what the device makes of it", "#fdf5ea")]

    # The ring.
    descriptors = [("context", ["TSE TCP IP PAYLEN=4000", "HDRLEN=54 MSS=1460"], 24, 196),
                   ("data", ["DTALEN=54", "TSE IXSM TXSM IFCS"], 234, 154),
                   ("data", ["DTALEN=2800", "TSE"], 400, round(PAGES[0] * SCALE)),
                   ("data", ["DTALEN=1200", "TSE EOP RS"], 796, round(PAGES[1] * SCALE))]
    for name, lines, x, width in descriptors:
        out.append(box(x, 44, width, 80, "#ffffff"))
        out.append(text(x + 10, 66, name, 14, "start", "bold"))
        out.append(rows(x + 10, 88, lines, 12.5, family="monospace"))

    # Memory: the payload in the shades of the frames that it will be in.
    top = 188
    out.append(box(273, top, 74, 40, HEADER))
    out.append(text(310, top + 25, "header", 13))
    begin = 0
    for (_, _, x, width), size, name in zip(descriptors[2:], PAGES, ("one page", "another")):
        at = begin
        while at < begin + size:
            frame = at // MSS
            end = min((frame + 1) * MSS, begin + size)
            out.append(box(x + (at - begin) * SCALE, top, (end - at) * SCALE, 40, SHADES[frame]))
            if end - at > 400:
                out.append(text(x + (at + end - 2 * begin) / 2 * SCALE, top + 25, f"{end - at:,}", 13))
            at = end
        out.append(text(x + width - 4, top + 56, f"{size:,} bytes in {name}", 12, "end", fill=FAINT))
        begin += size
    for _, _, x, width in descriptors[1:]:
        out.append(arrow(x + width / 2, 126, x + width / 2, top - 3))
    out.append(rows(24, top + 80, ["What software leaves", "in the header", "(54 bytes)"], fill=FAINT))
    out.append(rows(IP_AT, top + 80, ["IP total length 0", f"IP identification {IDENTIFICATION}", "IP checksum 0"]))
    out.append(rows(TCP_AT, top + 80, [f"TCP sequence {SEQUENCE}", "TCP flags ACK PSH FIN",
                                       "TCP checksum: pseudo-header without length"]))

    # The wire.
    frames = -(-PAYLEN // MSS)
    for i in range(frames):
        payload = min(MSS, PAYLEN - i * MSS)
        last = i + 1 == frames
        top, size = 384 + i * 76, payload * SCALE
        out.append(box(24, top, 74, 40, HEADER))
        out.append(text(61, top + 25, "header", 13))
        out.append(box(98, top, size, 40, SHADES[i]))
        out.append(text(98 + size / 2, top + 25, f"{payload:,}", 13))
        out.append(box(98 + size, top, 38, 40, FCS))
        out.append(text(117 + size, top + 25, "FCS", 12))
        flags = "ACK PSH FIN" if last else "ACK"
        out.append(rows(IP_AT, top + 8, [f"IP total length {HDRLEN - IPCSS + payload}",
                                         f"IP identification {IDENTIFICATION + i}", "IP checksum computed"]))
        out.append(rows(TCP_AT, top + 8, [f"TCP sequence {SEQUENCE + i * MSS}", f"TCP flags {flags}",
                                          "TCP checksum computed, length included"]))
    out.append("</svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
