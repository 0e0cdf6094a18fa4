from __future__ import annotations

from pathlib import Path

from minuet.contracts.action import RetryPolicy
from minuet.runtime.settings import TABLE, load_settings
from minuet.tools.doctor import check_python, check_sqlite, settings_table, versions


def test_a_python_that_is_too_old_is_named_with_what_to_use() -> None:
    assert check_python((3, 11, 0)).verdict == "ok"
    assert check_python((3, 10, 14)).remedy == "Use Python 3.11 or later"


def test_a_sqlite_is_judged_by_its_version() -> None:
    assert check_sqlite((3, 37, 2)).verdict == "bad"
    assert "cannot be reached" in check_sqlite((3, 40, 1)).message
    assert check_sqlite((3, 52, 0)).message == "3.52.0 (one writer)"


def test_each_setting_is_listed_with_its_source_and_no_password(tmp_path: Path) -> None:
    settings = load_settings(
        folder=tmp_path,
        environ={"MINUET_API_URL": "https://ada:hush@example.com", "MINUET_STYLES__PLACE_ORDER": "orchestration"},
        app={"retry": RetryPolicy(attempts=3), "retention": "30d"},
    )
    rows = {row["name"]: row for row in settings_table(settings)}
    assert set(rows) >= {s.name for s in TABLE}
    assert rows["api_url"]["value"] == "https://ada:***@example.com"
    assert (rows["retention"]["value"], rows["retention"]["source"]) == ("30d", "App(retention=…)")
    assert (rows["retry.attempts"]["value"], rows["retry.attempts"]["source"]) == (3, "App(retry=…)")
    assert rows["styles.place_order"]["variable"] == "MINUET_STYLES__PLACE_ORDER"
    assert all(row["meaning"] and row["source"] for row in rows.values())


def test_versions_of_all_that_matters_are_known() -> None:
    assert {name for name, version in versions().items() if version} == {
        "minuet",
        "python",
        "sqlite",
        "plan_format",
        "store_schema",
    }
