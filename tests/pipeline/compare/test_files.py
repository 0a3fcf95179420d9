"""The page is self-contained and safe, the CSV complete, the command line clear."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser

from pipeline.compare.comparison import compare
from pipeline.compare.page import render_csv, render_page

DATE = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def embedded(page):
    text = page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    assert not set(text) & set("<>&"), "an HTML parser must find no markup in the data"
    return json.loads(text)


def test_the_page_holds_the_comparison(runs, contents):
    comparison = compare(runs, contents)
    data = embedded(render_page(comparison, source="here", date=DATE))
    assert data == json.loads(json.dumps(comparison)) | {"source": "here", "date": "2026-01-02T03:04+00:00"}


def test_the_page_asks_for_nothing_from_anywhere(runs, contents):
    page = render_page(compare(runs, contents), source="", date=DATE)
    without_namespace = page.replace("http://www.w3.org/2000/svg", "")
    assert "://" not in re.sub(r"sqlite:///\d+\.db", "", without_namespace)
    assert "default-src 'none'" in page and "@import" not in page


def test_no_name_closes_the_script_or_becomes_markup(make, contents):
    name = "</script><img src=x onerror=alert(1)>&\u2028"
    comparison = compare([make(0, {}, name=name, tags={"data": name, "overrides": name})], contents)
    page = render_page(comparison, source=name, date=DATE)

    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append(tag)
    parser.feed(page)
    assert "img" not in tags and tags.count("script") == 2
    data = embedded(page)
    assert (data["runs"][0]["name"], data["source"]) == (name, name)


def test_the_csv_has_every_run_in_full_precision(runs, contents):
    comparison = compare(runs, contents)
    rows = list(csv.DictReader(render_csv(comparison).splitlines()))
    assert [row["run"] for row in rows] == [run.id for run in runs]
    for index, (row, run) in enumerate(zip(rows, runs, strict=True)):
        assert float(row["integer/top1"]) == run.metrics["integer/top1"]
        assert (row["quantizer"], row["test set"]) == (run.tags["quantizer"], "digits")
        front = comparison["sets"][0]["fronts"]["model/integer_bytes"]
        assert row["front/model/integer_bytes"] == str(int(index in front))
        assert row["command"] == f"python -m pipeline {run.tags['overrides']}"


def command(*arguments):
    line = [sys.executable, "-m", "pipeline.compare", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


def test_the_command_writes_both_files(database, recorded, tmp_path):
    out = tmp_path / "deep" / "compare"
    done = command("--tracking-uri", database, "--experiment", "quantization", "--out", out)
    assert (done.returncode, done.stdout) == (
        0,
        f"{len(recorded)} runs: {out / 'index.html'}, {out / 'runs.csv'}\n",
    )
    data = embedded((out / "index.html").read_text())
    assert data["source"] == f"{database} · experiment quantization" and len(data["runs"]) == len(recorded)
    assert data["sets"][0]["tests"]["samples"] == 400
    assert len((out / "runs.csv").read_text().splitlines()) == 1 + len(recorded)


def test_the_command_refuses_in_a_line(tmp_path):
    done = command("--tracking-uri", f"sqlite:///{tmp_path}/no.db", "--out", tmp_path / "out")
    assert done.returncode == 1 and done.stderr.startswith("--tracking-uri=sqlite:///")
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_the_command_takes_the_users_figures(database, tmp_path):
    folder, out = tmp_path / "conf", tmp_path / "out"
    (folder / "hydra/callbacks").mkdir(parents=True)
    figures = "figures: {float/top1: {label: right, better: higher, role: quality}}"
    (folder / "hydra/callbacks/mine.yaml").write_text(f"compare:\n  {figures}\n")
    options = ("--tracking-uri", database, "--out", out, "--config-dir", folder)
    done = command(*options, "hydra/callbacks=mine")
    assert done.returncode == 0, done.stderr
    data = embedded((out / "index.html").read_text())
    assert [figure["label"] for figure in data["figures"]] == ["right"]
    assert "integer/top1" not in (out / "runs.csv").read_text().splitlines()[0].split(",")
    done = command(*options, "hydra/callbacks=mnie")
    assert done.returncode == 1 and "mnie" in done.stderr and "Traceback" not in done.stderr


def test_help_names_the_options():
    words = command("--help").stdout.split()
    assert {"--tracking-uri", "--experiment", "--sweep", "--filter", "--out", "--config-dir"} <= set(words)
