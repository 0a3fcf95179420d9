"""What was run is read from the folder that Hydra leaves."""

from stages.reporting.settings import Settings, read_settings


def test_without_the_folder_there_are_no_settings(tmp_path):
    assert read_settings(tmp_path) == Settings()


def test_groups_overrides_and_document_are_read(tmp_path):
    folder = tmp_path / ".hydra"
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 0\nmodel: ${oops}\n")
    (folder / "overrides.yaml").write_text("- model=lenet5\n- seed=1\n")
    (folder / "hydra.yaml").write_text(
        "hydra: {runtime: {choices: {experiment: null, data: mnist, model: lenet5, hydra/env: default}}}\n"
    )
    settings = read_settings(tmp_path)
    assert list(settings.groups.items()) == [("model", "lenet5"), ("data", "mnist")]
    assert settings.overrides == ("model=lenet5", "seed=1")
    assert settings.document == "seed: 0\nmodel: ${oops}\n"


def test_an_empty_folder_is_as_good_as_none(tmp_path):
    folder = tmp_path / ".hydra"
    folder.mkdir()
    (folder / "hydra.yaml").write_text("hydra:\n  runtime: {}\n")
    (folder / "overrides.yaml").write_text("[]\n")
    assert read_settings(tmp_path) == Settings()
