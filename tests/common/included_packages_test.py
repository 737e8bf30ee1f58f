import re
import sys
from pathlib import Path

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.common.included_packages import import_included_packages, import_plugins
from allencv.runtime.errors import InputError
from allencv.runtime.plugin_files import LOCAL, named_plugins


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


@pytest.fixture(params=["local", "global"])
def plugins(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that names plugins."""
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.syspath_prepend(folder)
    file = Path(LOCAL) if request.param == "local" else folder / "home" / ".allennlp" / "plugins"
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def test_plugins_are_imported(plugins: Path, folder: Path) -> None:
    (folder / "my_plugin.py").write_text("open('imported', 'w')")
    plugins.write_bytes("\ufeff\r\n  my_plugin \r\nmy_plugin\n\n".encode())
    ((name, place, _),) = named_plugins()
    assert (name, place) == ("my_plugin", f"line 2 of '{plugins}'")
    import_plugins()
    assert Path("imported").exists()
    del sys.modules["my_plugin"]


@pytest.mark.parametrize("name", ["no_such_plugin", "# parts", "mine.py", "a..b", "a b", "-", "ä"])
def test_a_missing_plugin_is_logged(
    plugins: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    plugins.write_text(f"allencv.plugin\n{name}\n", encoding="utf-8")
    import_plugins()
    (message,) = [each.message for each in caplog.records if each.name.startswith("allencv.common")]
    assert message.startswith(f"line 2 of '{plugins}' is '{name}'; expected a module in this ")


def test_a_plugin_that_cannot_be_one(plugins: Path, folder: Path) -> None:
    (folder / "half_plugin.py").write_text("x = 1\ndef f(:\n")
    (folder / "latin_plugin.py").write_bytes(b"x = '\xe4'\n")
    for name, message in {
        "half_plugin": "which Python cannot read: .*half_plugin.py:2: inv",
        "latin_plugin": "which Python cannot read: .*'utf-8' codec",
        "./half_plugin.py": "expected a module in this folder",
        ".half_plugin": "expected a module in this folder",
        "..": "expected a module in this folder",
    }.items():
        plugins.write_text(f"\n{name}")
        with pytest.raises(ConfigurationError) as error:
            import_plugins()
        assert re.search(f"^line 2 of '{plugins}' is '{name}'[,;] {message}", str(error.value))
        assert "\n" not in str(error.value)


def test_a_file_of_plugins_that_cannot_be_read(plugins: Path) -> None:
    plugins.write_bytes(b"m\xe4\n")
    with pytest.raises(InputError, match=f"^'{plugins}' is not text in UTF-8 .*; expected the na"):
        named_plugins()
    plugins.unlink()
    assert not named_plugins()
    plugins.mkdir()
    assert not named_plugins()
    plugins.rmdir()
    plugins.symlink_to(plugins.name)
    assert not named_plugins()
