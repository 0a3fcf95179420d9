"""What is no regular file is not opened, whatever its ending."""

from __future__ import annotations

import os

import pytest

from stages.importers import read_program


@pytest.mark.parametrize("ending", ["onnx", "tflite"])
def test_a_fifo_a_device_and_a_folder_are_refused(tmp_path, ending):
    os.mkfifo(tmp_path / f"a.{ending}")
    (tmp_path / f"b.{ending}").symlink_to("/dev/zero")
    (tmp_path / f"c.{ending}").mkdir()
    for name in "abc":
        with pytest.raises(ValueError, match=rf"{name}.{ending}: is no regular file, but a folder, FIFO or"):
            read_program(tmp_path / f"{name}.{ending}")
