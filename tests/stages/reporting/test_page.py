"""The page is well-formed, complete, escaped and self-contained; so is each plot."""

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from stages.artifacts import IntegerProgram, Metrics, NarrowedLayer, Roundings, Verdict
from stages.graph.lower import lower
from stages.reporting.layers import layer_table
from stages.reporting.page import RunResults, render
from stages.reporting.settings import Settings

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Checker(HTMLParser):
    """Collects text and attributes, and refuses tags that do not nest."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.attributes, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


def parse(page):
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


def rendered(run, settings=None, broken=None):
    if broken is not None:
        run = replace(run, verdict=replace(run.verdict, broken=broken))
    return render(
        run,
        settings=settings or Settings(),
        date=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    )


def test_the_page_names_every_layer_and_nests(run_of):
    names = [f"layer{i}.conv{j}" for i in range(4) for j in range(2)]
    page = parse(rendered(run_of(names)).page)
    text = {t.strip() for t in page.text}
    assert {"input", *names} <= text
    assert {"top-1", "87.97%", "87.88%", "1,078,640", "275,922"} <= text


def test_the_page_and_its_plots_refer_to_nothing_outside(run_of):
    result = rendered(run_of(["conv"]), settings=Settings(document="model: x\n"))
    parsed = parse(result.page)
    assert not re.search(r"https?://", result.page)
    assert not {"link", "img", "iframe", "image", "use"} & set(parsed.tags)
    linked = [value for name, value in parsed.attributes if name in ("src", "href", "xlink:href")]
    assert linked
    assert all(value.startswith("#") for value in linked)
    assert "url(" not in result.page
    for drawing in result.plots.values():
        assert re.findall(r"https?://[^\"]*", drawing) == ["http://www.w3.org/2000/svg"]


def test_anchors_lead_to_sections(run_of):
    attributes = parse(rendered(run_of(["conv"])).page).attributes
    ids = {value for name, value in attributes if name == "id"}
    assert {value[1:] for name, value in attributes if name == "href"} <= ids


def test_names_and_texts_are_escaped(run_of):
    name = '<tt onclick="x">&amp;\'</tt>'
    run = run_of([name], notes=("<script>alert(1)</script>",))
    settings = Settings(groups={"model": "<i>"}, overrides=("a=<u>",), document="x: '</pre><u>'")
    result = rendered(run, settings, broken="'<s>' broke")
    page = parse(result.page)
    assert name in {t.strip() for t in page.text}
    assert not {"tt", "i", "u", "s"} & set(page.tags)
    assert page.tags.count("script") == 1
    assert "onclick" not in {key for key, _ in page.attributes}
    for drawing in result.plots.values():
        ET.fromstring(drawing)


def test_each_plot_is_a_drawing_of_its_own(run_of):
    plots = rendered(run_of(["conv1", "conv2"])).plots
    assert set(plots) == {"activations", "errors", "weights", "confusion"}
    for drawing in plots.values():
        root = ET.fromstring(drawing)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "nan" not in drawing
        assert "inf" not in re.sub(r"<style>.*?</style>|<title>.*?</title>", "", drawing, flags=re.S)


def test_a_network_without_layers_and_metrics_has_a_page(run_of):
    run = run_of([])
    run = RunResults(
        metrics=Metrics(values={}),
        model=run.model,
        observations=replace(run.observations, statistics={}),
    )
    page = rendered(run)
    parse(page.page)
    assert "not observed" in page.page
    assert "The predictions were not recorded." in page.page
    assert "not measured" in page.page
    assert "No samples were compared." in page.page
    assert "Speed was not measured." in page.page


def test_a_program_alone_has_a_page(run_of):
    """Neither network nor observations: the table has the program's values, and no weights are drawn."""
    run = run_of(["conv"])
    program = IntegerProgram(program=lower(run.model.quantized, "float"))
    alone = replace(run, model=None, observations=None, program=program)
    page = rendered(alone)
    text = {t.strip() for t in parse(page.page).text}
    assert {"input", "conv", "conv2d"} <= text
    assert set(page.plots) == {"activations", "errors", "confusion"}
    assert [row[:2] for row in layer_rows(alone)] == [row[:2] for row in layer_rows(run)]


def layer_rows(run):
    """Names and operators of the table of layers, and whether a simulation was compared."""
    layers = layer_table(run.observations, run.model, run.program, run.parity)
    return [(layer.name, layer.op, layer.simulated is not None) for layer in layers]


def test_what_has_no_noise_is_infinite(run_of):
    run = run_of(["conv"])
    layers = tuple(replace(p, sqnr_db=None, noiseless=True) for p in run.parity.layers)
    page = rendered(replace(run, parity=replace(run.parity, layers=layers)))
    assert page.page.count('data-value="Infinity"') == 2
    assert "∞" in page.page
    unmeasured = tuple(replace(p, sqnr_db=None) for p in run.parity.layers)
    page = rendered(replace(run, parity=replace(run.parity, layers=unmeasured)))
    assert "∞" not in page.page


@pytest.mark.parametrize("sqnr_db", [math.inf, -math.inf, -12.0, 0.0, 250.0])
def test_any_sqnr_can_be_drawn(run_of, sqnr_db):
    run = run_of(["conv"])
    layers = tuple(replace(layer, sqnr_db=sqnr_db) for layer in run.parity.layers)
    run = replace(run, parity=replace(run.parity, layers=layers))
    xs = [float(x) for x in re.findall(r'cx="([^"]*)"', rendered(run).plots["errors"])]
    assert len(xs) == 2
    assert all(200 <= x <= 1000 for x in xs)


def test_the_verdict_is_shown(run_of):
    run = run_of(["conv"])
    assert "Parity holds." in rendered(run).page
    broken = rendered(run, broken="they agree on 0.5").page
    assert "Parity broken." in broken
    assert "they agree on 0.5" in broken
    assert "This run has no parity contract." in rendered(replace(run, verdict=Verdict())).page
    assert "This run has no parity contract." in rendered(replace(run, verdict=None)).page


def test_lost_channels_are_shown_beside_those_before(run_of):
    layer = NarrowedLayer(name="conv", channels=(64, 48), operations=(4000, 3000))
    checker = parse(rendered(replace(run_of(["conv"]), narrowed=(layer,))).page)
    text = " ".join(" ".join(checker.text).split())
    assert "conv 48 64 3,000 4,000 75.00%" in text and "all 48 64" in text
    assert "Compression" not in " ".join(parse(rendered(run_of(["conv"])).page).text)


def test_roundings_are_shown_with_what_the_backend_computes_exactly(run_of):
    run = run_of(["conv"])
    text = [t.strip() for t in parse(rendered(run).page).text if t.strip()]
    first = text.index("equal output levels") + 4
    assert text[first : first + 6] == ["float", "exact", "100.00%", "0", "100.00%", "87.50%"]
    assert text[first + 6 : first + 10] == ["fixed_point", "within a level an operator", "93.75%", "1"]
    assert "No samples were compared." in rendered(replace(run, roundings=Roundings(costs=()))).page


def test_speeds_are_shown_with_quartiles_and_what_they_hold_for(run_of):
    page = rendered(run_of(["conv"])).page
    assert "Images per second, 64 a call, on 2 threads:" in page
    text = [t.strip() for t in parse(page).text if t.strip()]
    first = text.index("quartiles") + 1
    assert text[first : first + 3] == ["float", "2,310", "2,210 … 2,410"]


def test_equal_predictions_are_said_to_be_equal(run_of):
    run = run_of(["conv"])
    same = dict(run.metrics.predictions, integer=run.metrics.predictions["float"])
    result = rendered(replace(run, metrics=replace(run.metrics, predictions=same)))
    assert "predict the same class for each of 50 samples" in result.page
    assert "confusion" not in result.plots


def test_sixty_layers_stay_below_three_megabytes(run_of):
    assert len(rendered(run_of([f"block{i}.conv" for i in range(60)])).page) < 3_000_000
