"""The command `accelc-pack`: it writes packings that hold, and says what is wrong with a file, line by line."""

import csv

import pytest

from accelc.compiler.pack import run_pack

GOOD = "id,lower,upper,size\na,0,2,5\nb,1,3,4\nc,2,4,5\n"


@pytest.fixture
def file(tmp_path):
    """A small instance."""
    path = tmp_path / "small.csv"
    path.write_text(GOOD)
    return path


def test_the_packing_is_written_beside_the_buffers(file, tmp_path, capsys):
    output = tmp_path / "out.csv"
    assert run_pack([str(file), "--capacity", "9", "-o", str(output)]) == 0
    rows = list(csv.DictReader(output.open()))
    assert [(r["id"], r["lower"], r["upper"], r["size"]) for r in rows] == [
        ("a", "0", "2", "5"),
        ("b", "1", "3", "4"),
        ("c", "2", "4", "5"),
    ]
    (a, b, c) = (int(row["offset"]) for row in rows)
    assert (a == c == 0 and b == 5) or (a, b, c) == (4, 0, 4)
    assert "3 buffers, peak 9, lower bound 9, no packing is lower" in capsys.readouterr().out


def test_without_a_capacity_the_lower_bound_is_the_goal(file, capsys):
    assert run_pack([str(file)]) == 0
    assert "peak 9, lower bound 9" in capsys.readouterr().out


def test_what_does_not_fit_is_an_error_and_no_file(file, tmp_path, capsys):
    output = tmp_path / "out.csv"
    assert run_pack([str(file), "--capacity", "8", "-o", str(output)]) == 1
    assert not output.exists()
    error = capsys.readouterr().err
    assert "takes 9, expected at most 8" in error and "this is proven" in error


def test_columns_may_stand_in_any_order_among_others(tmp_path):
    path = tmp_path / "more.csv"
    path.write_text("size,colour,id,upper,lower\n4,red,x,7,3\n")
    output = tmp_path / "out.csv"
    assert run_pack([str(path), "-o", str(output)]) == 0
    assert output.read_text() == "id,lower,upper,size,offset\nx,3,7,4,0\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names the columns nothing, expected id, lower, upper, size"),
        ("id,lower,size\n", "'size', expected id, lower, upper, size: upper is missing"),
        ("id,lower,upper,size\na,0,1\n", "small.csv:2:1: error: 3 cells, expected 4"),
        ("id,lower,upper,size\na,0,1,x\n", "small.csv:2:1: error: size is 'x', expected an integer from 0 to"),
        ("id,lower,upper,size\na,-1,1,2\n", "lower is '-1', expected an integer from 0 to"),
        ("id,lower,upper,size\na,5,5,2\n", "the lifetime [5, 5) is empty, expected lower < upper"),
        ("id,lower,upper,size\na,5,6,0\n", "size is 0, expected at least 1"),
        ("id,lower,upper,size\na,5,6,1\n\na,5,6,1\n", "small.csv:4:1: error: id 'a' occurs on line 2 already"),
    ],
)
def test_a_faulty_file_is_refused_with_its_place(file, capsys, text, message):
    file.write_text(text)
    assert run_pack([str(file)]) == 1
    assert message in capsys.readouterr().err


def test_all_faults_are_told_at_once(file, capsys):
    file.write_text("id,lower,upper,size\na,0,0,1\nb,1,x,1\n")
    assert run_pack([str(file)]) == 1
    error = capsys.readouterr().err
    assert ":2:1: error: the lifetime" in error and ":3:1: error: upper is 'x'" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--capacity", "0"], "--capacity is 0, expected at least 1"),
        (["--budget", "-1"], "--budget is -1, expected at least 0"),
        (["--seconds", "nan"], "--seconds is nan, expected at least 0"),
    ],
)
def test_wrong_usage(file, capsys, arguments, message):
    assert run_pack([str(file), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_input_is_not_replaced(file, capsys):
    assert run_pack([str(file), "-o", str(file)]) == 2
    assert file.read_text() == GOOD
    assert "would replace the file that is read" in capsys.readouterr().err


def test_a_missing_file(tmp_path, capsys):
    assert run_pack([str(tmp_path / "none.csv")]) == 1
    assert "none.csv" in capsys.readouterr().err
