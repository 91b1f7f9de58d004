"""draw.py FILE.png < FIGURES.json: a panel per case, a bar per contestant, whiskers from the worst turn to the best."""

import json
import statistics
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLORS = {"visionserve": "#0b6e4f", "bare": "#9aa0a6"}
PEER = "#c9a227"
INK = "#2b2d31"


def main() -> None:
    data = json.load(sys.stdin)
    cases = [case for case in data["cases"].values() if any(served(row) for row in case["contestants"].values())]
    if not cases:
        sys.exit("nothing was measured, so there is nothing to draw")
    plt.rcParams.update({"font.size": 9, "text.color": INK, "axes.labelcolor": INK, "ytick.color": INK})
    rows = [len(case["contestants"]) for case in cases]
    figure, panels = plt.subplots(
        len(cases),
        1,
        figsize=(9, 0.32 * sum(rows) + 0.95 * len(cases) + 0.6),
        height_ratios=rows,
        squeeze=False,
        layout="constrained",
    )
    for panel, case in zip(panels[:, 0], cases, strict=True):
        draw_case(panel, case)
    figure.suptitle(
        f"{data['machine']}\nMedians of {data['rounds']} rounds by turns, whiskers from the worst turn to the best",
        fontsize=9,
    )
    figure.savefig(sys.argv[1], dpi=150)


def draw_case(panel, case: dict) -> None:
    contestants = list(case["contestants"].values())
    measured = [row for row in contestants if served(row)]
    largest = max(max(row["turns"]) for row in measured)
    # One stalled server must not flatten everyone else's bars.
    logarithmic = largest > 20 * min(statistics.median(row["turns"]) for row in measured)
    for place, row in enumerate(contestants):
        if not served(row):
            panel.text(
                0.01,
                place,
                f"void: {(row['failure'] or 'no turn')[:110]}",
                va="center",
                fontsize=7.5,
                color="#a4262c",
                transform=panel.get_yaxis_transform(),
            )
            continue
        middle, low, high = statistics.median(row["turns"]), min(row["turns"]), max(row["turns"])
        panel.barh(place, middle, height=0.68, color=COLORS.get(row["name"], PEER))
        panel.errorbar(middle, place, xerr=[[middle - low], [high - middle]], color=INK, capsize=2.5, lw=0.9)
        panel.annotate(
            f"{middle:.3g}" if middle < 100 else f"{middle:,.0f}",
            (high, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            fontweight="bold" if row["name"] == "visionserve" else "normal",
        )
    panel.set_yticks(range(len(contestants)), [label(row) for row in contestants])
    panel.set_ylim(len(contestants) - 0.45, -0.55)
    if logarithmic:
        panel.set_xscale("log")
    panel.set_xlim(right=largest * (2 if logarithmic else 1.12))
    panel.set_title(case["title"], loc="left", fontsize=10, fontweight="bold")
    panel.set_xlabel(caption(case, logarithmic), fontsize=8, loc="left")
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", labelsize=8, colors="#6b6f76")
    panel.grid(axis="x", color="#e4e6e8", lw=0.7)
    panel.set_axisbelow(True)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)


def caption(case: dict, logarithmic: bool) -> str:
    unit = f"{case['unit']}, {'lower' if case['open_loop'] else 'higher'} is better{', logarithmic' * logarithmic}"
    ratios = [
        f"visionserve / {over}: {statistics.median(values):.3g}" for over, values in case["ratios"].items() if values
    ]
    return "   |   ".join([unit, *ratios])


def label(row: dict) -> str:
    return f"{row['title']} {row['version']}" if row["version"] else row["title"]


def served(row: dict) -> bool:
    return row["failure"] is None and bool(row["turns"])


if __name__ == "__main__":
    main()
