from pathlib import Path

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.common.included_packages import import_included_packages


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_module_in_this_folder(folder: Path) -> None:
    (folder / "included_parts.py").write_text("open('imported', 'w')")
    import_included_packages(["config.jsonnet", "--include-package=included_parts", "-s", "run"])
    assert (folder / "imported").exists()
    import_included_packages(["config.jsonnet", "--include-package"])  # the command says that


@pytest.mark.parametrize("name", ["nomine", "no.such.module", "included.py", "./mine", ""])
def test_a_module_that_is_not_there(name: str, folder: Path) -> None:
    (folder / "included.py").write_text("")
    with pytest.raises(ConfigurationError) as error:
        import_included_packages(["--include-package", name])
    assert str(error.value) == (
        f"--include-package is '{name}'; expected a module in this folder or on Python's path, "
        "with dots and without .py"
    )


def test_what_the_module_needs_is_not_there(folder: Path) -> None:
    (folder / "needs_more.py").write_text("import no_such_library")
    with pytest.raises(ConfigurationError, match="'needs_more', which imports no_such_library; i"):
        import_included_packages(["--include-package", "needs_more"])


def test_a_module_that_python_cannot_read(folder: Path) -> None:
    (folder / "half_written.py").write_text("x = 1\ndef f(:\n")
    with pytest.raises(ConfigurationError, match=r"'half_written', which .*half_written.py:2: inv"):
        import_included_packages(["--include-package", "half_written"])


def test_an_error_of_the_users_code_is_not_hidden(folder: Path) -> None:
    (folder / "raises.py").write_text("raise ValueError('mine')")
    with pytest.raises(ValueError, match="^mine$"):
        import_included_packages(["--include-package", "raises"])
