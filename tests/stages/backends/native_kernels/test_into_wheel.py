"""The engine in a wheel: `stages.backends.native_kernels.into_wheel`."""

import platform
import zipfile

import pytest
from setuptools import Distribution

from stages.backends.native_kernels import into_wheel, library
from stages.backends.native_kernels.instruction_sets import INSTRUCTION_SETS
from stages.backends.native_kernels.observing import find_taking

COMPILER = library.find_compiler()
SCALAR = INSTRUCTION_SETS[-1]


@pytest.fixture(scope="module")
def brought(tmp_path_factory):
    """A folder as a wheel brings it, with scalar code alone."""
    if COMPILER is None:
        pytest.fail("no C++ compiler: apt install g++, or pip install '.[compiler]'")
    folder = tmp_path_factory.mktemp("package") / "prebuilt"
    for isa in (None, SCALAR):
        library.prebuild(COMPILER, folder, isa)
    library.prebuild(COMPILER, folder, SCALAR, "observe")
    return folder


def without_compiler(monkeypatch, folder):
    monkeypatch.setattr(library, "find_compiler", lambda: None)
    monkeypatch.setattr(library, "BROUGHT", folder)
    return library.find_library.__wrapped__


def test_what_a_wheel_brings_needs_no_compiler(monkeypatch, brought):
    found = without_compiler(monkeypatch, brought)()
    assert found.isa == "scalar"
    assert found.functions._name.startswith(str(brought))
    taking = find_taking.__wrapped__()
    assert taking.isa == "scalar" and taking.functions._name.startswith(str(brought))


def test_an_instruction_set_that_the_wheel_lacks_needs_one(monkeypatch, brought):
    others = [isa for isa in library.available(library.cpu_features(COMPILER)) if isa != "scalar"]
    if others:
        assert "no C++ compiler" in without_compiler(monkeypatch, brought)(others[0])


def test_without_either_the_reason_names_the_extra(monkeypatch, tmp_path):
    assert "quantization-pipeline[compiler]" in without_compiler(monkeypatch, tmp_path)()


def test_a_library_of_other_source_is_not_taken(monkeypatch, brought, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "cpu.cpp").write_text("// changed")
    monkeypatch.setattr(library, "SOURCE", source)
    assert "no C++ compiler" in without_compiler(monkeypatch, brought)()


def test_all_of_the_architecture_are_wanted_unless_named(monkeypatch):
    monkeypatch.delenv(into_wheel.CHOSEN, raising=False)
    names = [isa.name for isa in into_wheel.wanted()]
    assert names[-1] == "scalar" and len(names) > 1
    if platform.machine() == "x86_64":
        assert not any(name.startswith("neon") for name in names)
    monkeypatch.setenv(into_wheel.CHOSEN, "scalar, avxvnni")
    assert [isa.name for isa in into_wheel.wanted()] == ["avxvnni", "avxvnni", "scalar"]
    monkeypatch.setenv(into_wheel.CHOSEN, "")
    assert into_wheel.wanted() == []


def test_an_unknown_one_is_refused_by_name(monkeypatch):
    monkeypatch.setenv(into_wheel.CHOSEN, "avx3")
    with pytest.raises(ValueError, match=r"NATIVE_PREBUILT=avx3: isa=avx3: .*avx2"):
        into_wheel.wanted()


@pytest.mark.filterwarnings("ignore::setuptools.SetuptoolsDeprecationWarning")  # of its own command install
def test_the_wheel_has_a_platform_and_the_libraries(monkeypatch, tmp_path):
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(into_wheel.CHOSEN, "scalar")

    def prebuild(compiler, folder, isa, part="engine"):
        return written(folder / f"{part}-{isa and isa.name}.so")

    monkeypatch.setattr(library, "prebuild", prebuild)
    distribution = Distribution(
        {"name": "x", "version": "1", "packages": ["stages"], "script_name": "setup.py"}
    )
    distribution.cmdclass = {"build_py": into_wheel.BuildWithEngine, "bdist_wheel": into_wheel.PlatformWheel}
    distribution.run_command("bdist_wheel")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert wheel.name.startswith("x-1-py3-none-") and not wheel.name.endswith("-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        libraries = [name for name in archive.namelist() if name.endswith(".so")]
    assert len(libraries) == 3  # the probe of the CPU, the engine, observation
    assert all(name.startswith("stages/backends/native_kernels/prebuilt/") for name in libraries)


def written(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_without_a_compiler_the_wheel_is_for_any_platform(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(library, "find_compiler", lambda: None)
    monkeypatch.delenv(into_wheel.CHOSEN, raising=False)
    assert into_wheel.build(tmp_path) == []
    assert "there is no C++ compiler, the wheel holds its source" in capsys.readouterr().err
