from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minuet.contracts.action import RetryPolicy
from minuet.errors import SettingsError
from minuet.runtime.settings import NOT_SETTINGS, TABLE, Settings, duration_ms, is_loopback, load_settings, masked


def load(folder: Path, **given: Any) -> Settings:
    return load_settings(folder=folder, environ=given.pop("environ", {}), **given)


def test_without_anything_each_value_is_the_default(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings == Settings()
    assert set(settings.sources.values()) == {"default"}


def test_a_flag_wins_over_the_environment_over_the_file_over_the_app_over_the_default(tmp_path: Path) -> None:
    given: dict[str, Any] = {"app": {"port": 1}}
    assert (load(tmp_path, **given).port, load(tmp_path, **given).sources["port"]) == (1, "App(port=…)")
    (tmp_path / "pyproject.toml").write_text("[tool.minuet]\nport = 2\n")
    assert (load(tmp_path, **given).port, load(tmp_path, **given).sources["port"]) == (2, "pyproject.toml")
    given["environ"] = {"MINUET_PORT": "3"}
    assert (load(tmp_path, **given).port, load(tmp_path, **given).sources["port"]) == (3, "MINUET_PORT")
    given["flags"] = {"port": 4, "store_url": None}
    assert (load(tmp_path, **given).port, load(tmp_path, **given).sources["port"]) == (4, "--port")
    assert load(tmp_path, **given).sources["store_url"] == "default"


def test_minuet_toml_has_the_same_without_the_heading(tmp_path: Path) -> None:
    (tmp_path / "minuet.toml").write_text('grace = "3s"\n[styles]\nplace_order = "orchestration"\n')
    settings = load(tmp_path)
    assert settings.grace_ms == 3_000
    assert settings.styles == {"place_order": "orchestration"}
    assert settings.sources["styles.place_order"] == "minuet.toml"


def test_two_files_with_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "minuet.toml").write_text("port = 1\n")
    (tmp_path / "pyproject.toml").write_text("[tool.minuet]\n")
    with pytest.raises(SettingsError, match="Keep one"):
        load(tmp_path)


def test_an_unknown_name_is_refused_with_the_one_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Did you mean MINUET_STORE_URL"):
        load(tmp_path, environ={"MINUET_STORE_ULR": "sqlite:///x.db"})
    with pytest.raises(SettingsError, match=r"Did you mean retry.first"):
        load(tmp_path, environ={"MINUET_RETRY__FRIST": "1s"})
    (tmp_path / "minuet.toml").write_text("prot = 1\n")
    with pytest.raises(SettingsError, match=r"prot in minuet.toml is no setting. Did you mean port"):
        load(tmp_path)


def test_names_for_tests_ci_and_debugging_are_nobodys_settings(tmp_path: Path) -> None:
    environ = {name + ("X" if name.endswith("_") else ""): "1" for name in NOT_SETTINGS}
    assert load(tmp_path, environ=environ) == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "70000"),
        ("port", "eighty"),
        ("grace", "soon"),
        ("grace", "nan"),
        ("log_level", "loud"),
        ("store_url", "shop.db"),
        ("store_url", "oracle://x"),
        ("broker_url", "nats://x"),
        ("host", "0.0.0.0"),
        ("host", "example.com"),
        ("slots", "0"),
        ("app", ""),
        ("app", "a\x1b[2J"),
        ("retry__factor", "0.5"),
        ("retry__factor", "many"),
        ("styles__place_order", "improvised"),
    ],
)
def test_a_wrong_value_is_refused_and_its_source_named(tmp_path: Path, name: str, value: str) -> None:
    variable = "MINUET_" + name.upper()
    with pytest.raises(SettingsError, match=variable):
        load(tmp_path, environ={variable: value})


@pytest.mark.parametrize("value", [True, -1, 1.5, [1]])
def test_a_value_of_a_wrong_type_in_a_file_is_refused(tmp_path: Path, value: Any) -> None:
    (tmp_path / "minuet.toml").write_text(f"slots = {str(value).lower()}\n")
    with pytest.raises(SettingsError, match=r"slots in minuet.toml"):
        load(tmp_path)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "minuet.toml").write_text("port = = 1\n")
    with pytest.raises(SettingsError, match=r"minuet.toml cannot be read"):
        load(tmp_path)


def test_the_retry_policy_is_put_together_part_by_part(tmp_path: Path) -> None:
    (tmp_path / "minuet.toml").write_text('[retry]\nfirst = "2s"\n')
    settings = load(tmp_path, environ={"MINUET_RETRY__AT_MOST": "5m"}, app={"retry": RetryPolicy(attempts=3)})
    assert settings.retry == RetryPolicy(attempts=3, first_ms=2_000, at_most_ms=300_000)
    assert settings.sources["retry.first"] == "minuet.toml"
    assert settings.sources["retry.at_most"] == "MINUET_RETRY__AT_MOST"
    assert settings.sources["retry.attempts"] == "App(retry=…)"


def test_a_longest_delay_below_the_first_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"retry.at_most .* is below"):
        load(tmp_path, environ={"MINUET_RETRY__AT_MOST": "10ms"})


def test_styles_of_a_workflow_and_of_its_sections_make_its_placement(tmp_path: Path) -> None:
    (tmp_path / "minuet.toml").write_text(
        '[styles]\nPlace_Order = "choreography"\n"marketplace/1.4" = "orchestration"\n'
    )
    settings = load(tmp_path, environ={"MINUET_STYLES__PLACE_ORDER": "orchestration"})
    assert settings.placement("place_order").root == "orchestration"
    assert settings.placement("marketplace").sections == {"1.4": "orchestration"}
    settings.check_styles(["place_order", "marketplace"])
    with pytest.raises(SettingsError, match="Did you mean marketplace"):
        settings.check_styles(["place_order", "marketplaces"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("25s", 25_000),
        ("500ms", 500),
        ("1.5h", 5_400_000),
        ("30d", 2_592_000_000),
        ("5m", 300_000),
        (2, 2_000),
        ("7", 7_000),
    ],
)
def test_durations_are_read_with_their_unit(text: Any, expected: int) -> None:
    assert duration_ms(text) == expected


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 year", True, None, float("inf"), "1e9s"])
def test_what_is_no_duration_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        duration_ms(text)


def test_passwords_are_masked() -> None:
    assert masked("postgresql://shop:hush@db:5432/shop") == "postgresql://shop:***@db:5432/shop"
    assert masked("sqlite:///shop.db") == "sqlite:///shop.db"


def test_only_this_machine_is_loopback() -> None:
    assert all(is_loopback(h) for h in ("127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST", "::1", "[::1]"))
    assert not any(
        is_loopback(h) for h in ("0.0.0.0", "127.0.0.1.example.com", "localhost.example.com", "10.0.0.1", "")
    )


def test_each_setting_has_a_field_and_says_what_it_means() -> None:
    fields = set(Settings.__dataclass_fields__)
    assert all(s.field in fields and s.meaning for s in TABLE)
    assert len({s.name for s in TABLE}) == len(TABLE)
