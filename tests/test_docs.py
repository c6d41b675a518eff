"""The documentation's code runs, its links lead somewhere, its figures are those on record."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from placed import ROOT, choices

from portraitlab.pretraining.report import figures
from portraitlab.tables.comparison import compare
from portraitlab.tables.document import replace_part
from portraitlab.tables.ladder import ladder_table
from portraitlab.tables.paper_table import find_table
from portraitlab.tables.paper_view import paper_view
from portraitlab.tables.published import published_table
from portraitlab.tables.resolution import read_records, resolution_table
from portraitlab.tables.results import read_results
from portraitlab.tables.sensitivity import sensitivity_table
from portraitlab.world.pretrained import WEIGHTS

FIRST_EDITION = ROOT / "experiments" / "hifi_portrait" / "first_edition"
"""Results that pages show until they are made again."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=str)
def test_python_blocks_run_in_their_order(page: Path) -> None:
    names: dict = {"__name__": "documentation"}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)


@pytest.mark.parametrize("name", ["encoders", "face3d", "full_size", "photos"])
def test_commands_compose(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"^ *\|? *`?(?:    )?python run\.py ([^`\n#]+)", text, re.MULTILINE)
    assert commands
    for command in commands:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            compose("config", shlex.split(command))


def test_every_choice_of_every_group_is_documented() -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    about = {}
    for groups, row in re.findall(r"^\| (`.+?`) \| (.+) \|$", text, re.MULTILINE):
        for page in re.findall(r"\]\((\w+\.md)", row):
            row += (ROOT / "docs" / page).read_text()
        about |= dict.fromkeys(re.findall(r"`(\w+)`", groups), row)
    for group, choice in choices():
        assert re.search(rf"[`=]{choice}`", about[group]), (group, choice)


def test_steps_download_the_files_that_are_loaded() -> None:
    text = (ROOT / "docs" / "full_size.md").read_text()
    more = ("clip=vit_l14", "clip_pair=vit_l14", "sampler=sdxl_lightning")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", ["scale=sdxl", *more])
    backbone, seen = config.backbone, instantiate(config.clip.weights)
    needed = (
        instantiate(backbone.weights),
        instantiate(backbone.autoencoder_weights),
        instantiate(config.sampler.weights),
        seen + instantiate(config.judge.clip.weights),
    )
    for weights in needed:
        assert f"{weights.command}\n" in text
    assert text.count("hf download") == len(needed)


def test_the_component_that_is_shown_fuses_references() -> None:
    import torch

    from portraitlab.types import FaceFeatures

    names: dict = {"__name__": "documentation"}
    exec(blocks(ROOT / "docs" / "components.md", "python")[0], names)
    mask = torch.tensor([[True, True], [True, False]])
    features = FaceFeatures(torch.zeros(2, 2, 3, 5), torch.randn(2, 2, 7), mask)
    tokens = names["MeanFusion"](5, 7, 11)(features)
    assert tokens.tokens.shape == (2, 1, 11)
    changed = FaceFeatures(features.local_, features.global_ + ~mask[..., None], mask)
    torch.testing.assert_close(names["MeanFusion"](5, 7, 11)(changed).mask, tokens.mask)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    named = set(
        re.findall(r"`((?:portraitlab|conf|tests|docs|experiments)/[\w/.]+)`", page.read_text())
    )
    shown = {"portraitlab/method/fusion/mean.py", "conf/fusion/mean.yaml"}
    assert [name for name in sorted(named - shown) if not (ROOT / name).exists()] == []


def test_the_foundation_s_figures_are_those_on_record() -> None:
    text = (ROOT / "docs" / "foundation.md").read_text()
    listing = json.loads((WEIGHTS / "foundation.json").read_text())
    assert text == replace_part(text, "figures", figures(listing)), (
        "run python -m portraitlab.pretraining.report"
    )


def test_the_readme_s_results_are_those_on_record() -> None:
    text = (ROOT / "README.md").read_text()
    table = published_table(FIRST_EDITION.parent / "first_light")
    assert text == replace_part(text, "results", table), (
        "run python -m portraitlab.tables.published"
    )


def test_the_first_edition_s_results_are_those_on_record() -> None:
    text = (ROOT / "docs" / "results.md").read_text()
    table = published_table(FIRST_EDITION / "first_light")
    assert text == replace_part(text, "results", table), (
        "run python -m portraitlab.tables.published"
    )


def test_the_rows_without_the_start_are_those_on_record() -> None:
    text = (ROOT / "docs" / "foundation.md").read_text()
    folder = FIRST_EDITION / "without_start"
    assert text == replace_part(text, "results", published_table(folder)), (
        "run python -m portraitlab.tables.published"
    )
    table = resolution_table(read_records([folder]), "sim_f").markdown()
    assert text == replace_part(text, "resolution", table), (
        "run python -m portraitlab.tables.resolution"
    )


def test_the_fusions_that_are_compared_are_those_on_record() -> None:
    text = (ROOT / "docs" / "fusions.md").read_text()
    folders = [FIRST_EDITION / name for name in ("perceptron", "first_light", "more_seeds")]
    assert text == replace_part(text, "results", published_table(folders[0])), (
        "run python -m portraitlab.tables.published"
    )
    table = resolution_table(read_records(folders), "sim_f").markdown()
    assert text == replace_part(text, "resolution", table), (
        "run python -m portraitlab.tables.resolution"
    )


def test_the_refiners_lead_after_more_steps_is_on_record() -> None:
    text, readme = ((ROOT / name).read_text() for name in ("docs/fusions.md", "docs/results.md"))
    folder = FIRST_EDITION / "full_budget"
    assert text == replace_part(text, "full", published_table(folder)), (
        "run python -m portraitlab.tables.published with --part full"
    )
    table = resolution_table(read_records([folder]), "sim_f")
    assert text == replace_part(text, "full resolution", table.markdown()), (
        "run python -m portraitlab.tables.resolution with --part 'full resolution'"
    )
    (lead,) = (row for row in table.rows if row[0] == "concat, landmarks − refiner, landmarks")
    assert f"[{lead[2].replace('-', '+')} ±{lead[4]}](fusions.md" in readme


@pytest.mark.parametrize(
    "name", ["first_edition/table2", "first_edition/table3", "table2", "table4", "table5"]
)
def test_the_papers_tables_of_the_results_are_those_on_record(name: str) -> None:
    table, readme = (
        find_table(str(FIRST_EDITION.parent / name)),
        (ROOT / "docs" / "results.md").read_text(),
    )
    shown = paper_view(table, read_results(table)).markdown()
    assert readme == replace_part(readme, table.name, shown), (
        f"run portraitlab table {table.folder} --document docs/results.md"
    )


def test_the_papers_order_in_the_results_is_on_record() -> None:
    readme = " ".join((ROOT / "docs" / "results.md").read_text().split())
    assert (
        "Intervals over seeds and people separate every pair of Table 3's rows as in the paper in "
        "Sim_f, Exp and Pose; in CLIP_f, and in Table 2, not every pair is separated." in readme
    )
    fusions, nets = (find_table(str(FIRST_EDITION / f"table{number}")) for number in (2, 3))
    for metric in nets.columns:
        own = compare(nets, read_results(nets), metric)
        assert own is not None
        assert (own.order == "the paper's") == (metric != "clip_f")
    for metric in fusions.columns:
        found = compare(fusions, read_results(fusions), metric)
        assert found is not None
        assert found.order != "the paper's"
    found = compare(fusions, read_results(fusions), "sim_f")
    assert found is not None
    (pair,) = (
        pair for pair in found.pairs if (pair.better, pair.other) == ("face refiner", "concat")
    )
    assert pair.lead.between is not None
    low, high = pair.lead.between
    lead = f"[{pair.lead.value:+.3f}](../experiments/hifi_portrait/first_edition/table2/README.md)"
    assert f"{lead} (95 % from {low:+.3f} to {high:+.3f})" in readme


def test_the_start_in_the_limits_is_on_record() -> None:
    readme = " ".join((ROOT / "docs" / "results.md").read_text().split())
    training = json.loads((WEIGHTS / "foundation.json").read_text())["controlnet"]["training"]
    assert f"trained for {training['minutes']:.0f} minutes to draw people" in readme
    results = FIRST_EDITION / "without_start" / "results"
    record = json.loads((results / "refiner-landmarks-0.json").read_text())
    value = f"{record['metrics']['sim_f']['value']:.3f}"
    assert f"the first row has {value} after {record['steps']:,} steps" in readme


def test_the_ladder_the_faults_and_the_resolution_are_those_on_record() -> None:
    experiments = FIRST_EDITION
    readme, world = ((ROOT / name).read_text() for name in ("docs/results.md", "docs/world.md"))
    assert readme == replace_part(readme, "ladder", ladder_table(experiments / "ladder")), (
        "run python -m portraitlab.tables.ladder"
    )
    (planted,) = (experiments / "sensitivity" / "results").glob("*.json")
    table = sensitivity_table(json.loads(planted.read_text())).markdown()
    assert world == replace_part(world, "sensitivity", table), (
        "run python -m portraitlab.tables.sensitivity"
    )
    records = read_records([experiments / "first_light", experiments / "more_seeds"])
    table = resolution_table(records, "sim_f").markdown()
    assert world == replace_part(world, "resolution", table), (
        "run python -m portraitlab.tables.resolution"
    )


def test_enough_people_are_scored_to_separate_two_hundredths() -> None:
    experiments = FIRST_EDITION
    records = read_records([experiments / "first_light", experiments / "more_seeds"])
    scored = OmegaConf.load(ROOT / "conf" / "scale" / "mini.yaml").world.score_identities
    assert {record["identities"] for record in records} == {scored}
    table = resolution_table(records, "sim_f")
    assert table.columns[1] == "seeds"
    assert table.columns[-1] == "people needed"
    for row in table.rows:
        assert row[1] == "3"
        assert int(row[-1]) <= scored, row


def test_planted_faults_show() -> None:
    (planted,) = (FIRST_EDITION / "sensitivity" / "results").glob("*.json")
    for name, fault in json.loads(planted.read_text())["faults"].items():
        for metric in fault["moves"]:
            change = fault["metrics"][metric]
            assert abs(change["difference"]) > 3 * change["error"], (name, metric)


def test_a_declared_row_without_a_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "table.yaml").write_text("rows: {concat: {choices: {fusion: concat}, paper: {}}}")
    with pytest.raises(ValueError, match=r"has 0 records of the row 'concat'"):
        published_table(tmp_path)


def test_a_document_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the lines <!-- results -->"):
        replace_part("nothing", "results", "table")


def spoken(seconds: int) -> str:
    return f"{seconds // 60} min {seconds % 60} s"


def test_times_and_steps_in_the_results_are_on_record() -> None:
    readme = " ".join((ROOT / "docs" / "results.md").read_text().split())
    experiments = FIRST_EDITION
    declared = OmegaConf.load(experiments / "first_light" / "table.yaml")
    sweep, others = declared.measured, declared.measured_too.first_run_seconds
    full = OmegaConf.load(experiments / "full_budget" / "table.yaml")
    record = json.loads((experiments / "first_light/results/refiner-landmarks-0.json").read_text())
    quiet, two_jobs = sweep.first_run_seconds, declared.measured_too.wall_seconds_of_two_jobs
    assert f"takes about {round(quiet / 60)} minutes on two cores" in readme
    busy = f"{spoken(min(others))} to {spoken(max(others))} while others used the host"
    assert f"({spoken(quiet)}; {busy})" in readme
    assert f"encoded, {record['steps']:,} steps" in readme
    assert f"which took {spoken(sweep.wall_seconds)}, or {spoken(two_jobs)} with `jobs=2`" in readme
    assert f"steps, {spoken(full.measured.training_seconds)} of training)" in readme
    assert f"both cores {spoken(full.measured_before.training_seconds)}" in readme


def test_the_full_budgets_sentence_is_on_record() -> None:
    folder = FIRST_EDITION / "full_budget"
    record = json.loads((folder / "results" / "refiner-landmarks-0.json").read_text())
    readme = " ".join((ROOT / "docs" / "results.md").read_text().split())
    for name in ("sim_f", "exp", "pose"):
        assert (
            f"{record['metrics'][name]['value']:.3f} ±{record['metrics'][name]['error']:.3f}"
            in readme
        )
    assert f"budget=full` ({record['steps']:,} steps" in readme


def test_listed_faults_are_those_that_tests_inject() -> None:
    marked = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
                what, lost = (ast.literal_eval(argument) for argument in node.args)
                marked.add((what, lost))
    table = (ROOT / "docs" / "sweeps.md").read_text().split("<!-- faults -->\n")[1]
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line[:1] == "|"][2:]
    assert {(what, lost) for what, _, _, lost in lines} == marked
    assert all(injected == survived for _, injected, survived, _ in lines)


def test_the_cost_of_a_jobs_process_is_on_record() -> None:
    record = json.loads((ROOT / "benchmarks" / "results" / "sweep.json").read_text())
    assert f"{record['overhead_seconds']} s" in (ROOT / "docs" / "sweeps.md").read_text()
    assert record["overhead_seconds"] < 3


def test_the_cost_of_prepared_photos_is_on_record() -> None:
    page = (ROOT / "docs" / "data.md").read_text().partition("## Figures")[2]
    rows = [line.split("|")[2:4] for line in page.splitlines() if line.startswith("| ")][2:]
    figures = [
        way
        for name in ("preparing", "prepared_batch")
        for way in json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())[
            "ways"
        ].values()
    ]
    assert [float(seconds) for seconds, _ in rows] == [way["seconds"] for way in figures]
    ratios = [float(ratio) for _, ratio in rows if ratio.strip()]
    assert ratios == [figures[number]["times_as_fast"] for number in (1, 3, 4)]  # to the first


def test_the_effect_of_the_number_of_cores_is_on_record() -> None:
    experiments = FIRST_EDITION
    differences = []
    for path in sorted((experiments / "first_light" / "results").glob("*.json")):
        two, one = (
            json.loads((experiments / folder / "results" / path.name).read_text())
            for folder in ("first_light", "one_core")
        )
        assert one["key"] == two["key"]
        assert one["origin"]["machine"]["cores"] == 1
        values = [each["metrics"]["sim_f"]["value"] for each in (one, two)]
        differences.append(abs(values[0] - values[1]))
    sweeps = " ".join((ROOT / "docs" / "sweeps.md").read_text().split())
    assert f"differ in Sim_f by up to {max(differences):.3f} " in sweeps
