"""Progress where somebody watches, numbers as people read them, and nothing that a notebook would run."""

from datetime import UTC, datetime, timedelta

import pytest

from leptonai.sdk import show
from leptonai.sdk.datasets import Rows


def test_nothing_is_drawn_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with show.Progress("fit") as bar:
        bar.update(1, 2, "rows")
        bar.tell("loss 0.1")
        bar.say("a line")
    assert capsys.readouterr() == ("", "")


def test_what_is_drawn_goes_to_stderr_and_leaves_no_thread(capsys: pytest.CaptureFixture[str]) -> None:
    with show.Progress("fit", show=True) as bar:
        bar.update(1, 2, "epochs")
        bar.tell("loss 0.25")
        bar.say("a line [not markup]")
        bar.update(2, 2, "epochs")
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2 epochs" in err
    assert "loss 0.25" in err
    assert "[not markup]" in err


def test_the_meter_knows_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(show.time, "monotonic", lambda: now[0])
    meter = show.Meter()
    meter.set(0, 100, "rows")
    now[0] += 10
    meter.set(20, 100, "rows")
    assert str(meter) == "20/100 rows  2 rows/s  40 s left"
    meter.set(1, 10, "epochs")  # another phase counts anew
    now[0] += 2
    meter.set(2, 10, "epochs")
    assert "0.5 epochs/s" in str(meter)
    meter.set(1024, 2048, "bytes")
    assert str(meter).startswith("1.0 KiB/2.0 KiB")


@pytest.mark.parametrize(("seconds", "words"), [(0.42, "0.4 s"), (42, "42 s"), (125, "2:05"), (11_400, "3:10:00")])
def test_durations(seconds: float, words: str) -> None:
    assert show.span(seconds) == words


def test_sizes_times_and_numbers() -> None:
    assert [show.size(n) for n in (5, 2048, 5 * 1024**2, 3 * 1024**4)] == ["5 B", "2.0 KiB", "5.0 MiB", "3.0 TiB"]
    assert show.ago(None) == ""
    assert show.ago(datetime.now(UTC) - timedelta(hours=5)) == "5 h ago"
    assert [show.number(v) for v in (0.12345, 1e-9, 12, None, "x")] == ["0.1235", "1.000e-09", "12", "", "x"]


def test_a_card_runs_nothing() -> None:
    nasty = "<script>alert(1)</script>"
    made = show.card(nasty, {nasty: nasty}, show.html_table([nasty], [[nasty]]))
    assert "<script" not in made
    assert made.count("&lt;script&gt;") == 5


def test_tables_take_text_as_it_is() -> None:
    shown = show.text(show.titled(show.table(["name [x]"], [["[red]value[/red]"]]), "[b]t"))
    assert "[b]t" in shown
    assert "[red]value[/red]" in shown
    assert "name [x]" in shown


def test_a_table_is_as_wide_as_it_needs_where_stdout_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show.console().print(show.table(["a"], [["x" * 500]]))
    assert "x" * 500 in capsys.readouterr().out


def test_a_wide_table_shows_the_columns_that_fit_and_says_how_many_do_not() -> None:
    names = [f"feature_{i}" for i in range(30)] + ["label"]
    shown = show.text(Rows([dict.fromkeys(names, 0.125)] * 3))
    lines = shown.splitlines()
    assert len(lines) == 7, shown
    assert "feature_0" in lines[0]
    assert lines[0].endswith("label")
    hidden = 31 - len(lines[0].split())
    assert lines[-1] == f"… {hidden} more columns before label"
    assert max(map(len, lines)) <= 120
