"""The report: every section in its order, true words, any model and any ids, and no text that becomes markup."""

import dataclasses
import datetime
import html.parser
import json
import re
import uuid

import numpy as np
import pandas as pd
import pytest

import fastmf
from fastmf.errors import DataError, ParameterError
from fastmf.model.history import Epoch
from fastmf.reporting import errors, fitting, lists
from fastmf.reporting.asked import Asked, share
from fastmf.reporting.errors import held_out
from fastmf.solvers import SOLVERS

pytest.importorskip("matplotlib")
SECTIONS = [
    "data",
    "learning",
    "errors",
    "predicted",
    "ranking",
    "tail",
    "biases",
    "axes",
    "items",
    "users",
    "settings",
]


class Page(html.parser.HTMLParser):
    """What a page holds: its elements, and the text of its headings."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


@pytest.fixture(scope="module", autouse=True)
def limits():
    """Do not measure the machine for every report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "limits", lambda device, with_blas: {"flops_per_second": 5e10, "bytes_per_second": 1e10})
        yield


@pytest.fixture(scope="module")
def text(model, parts, titles, kinds, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    model.report(path, ratings=parts[0], test=parts[1], titles=titles, item_features=kinds)
    return path.read_text(encoding="utf-8")


def test_sections_come_in_their_order(text):
    page = Page(text)
    assert [attrs["id"] for attrs in page.all("h2")] == SECTIONS
    assert [attrs["href"] for attrs in page.all("a")] == [f"#{key}" for key in SECTIONS]
    assert len(page.all("svg")) == len(page.all("figcaption")) >= 9


def test_hostile_titles_and_categories_stay_text(text):
    page = Page(text)
    assert len(page.all("script")) == 2  # the map's data, and its code
    assert page.all("img") == page.all("b") == []
    assert not [attrs for _, attrs in page.found if any(name.startswith("on") for name in attrs)]
    assert "49" not in re.findall(r"<td>([^<]*)</td>", text)
    data = json.loads(re.search(r'id="map-data">(.*?)</script>', text, re.DOTALL)[1])
    assert "</script><script>window.hurt = 1</script>" in data["titles"]
    assert "kind=</script><b>bold" in data["categories"]
    assert max(map(len, data["titles"])) <= 80


def test_nothing_is_fetched(text):
    assert not re.search(r"""(src|href)=["'](?!#|data:,)""", text)
    assert "url(http" not in text
    assert "default-src 'none'" in text
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_the_same_model_gives_the_same_page(model, parts, text, titles, kinds, tmp_path):
    model.report(tmp_path / "b.html", ratings=parts[0], test=parts[1], titles=titles, item_features=kinds)
    again = (tmp_path / "b.html").read_text(encoding="utf-8")
    one, two = (each.split('<h2 id="settings">')[0] for each in (text, again))
    assert one == two


CASES = {
    "als": {"solver": "als"},
    "sgd": {"solver": "sgd"},
    "gibbs": {"solver": "gibbs", "burn": 4, "samples": 8},
    "implicit": {"solver": "implicit"},
    "no biases": {"solver": "als", "biases": False},
    "no choice": {"choice": False},
}


@pytest.mark.parametrize("how", CASES.values(), ids=CASES)
def test_every_solver_has_a_report(parts, tmp_path, how):
    model = fastmf.fit(parts[0], k=2, **how)
    for name, given in (("bare.html", {}), ("whole.html", {"ratings": parts[0], "test": parts[1]})):
        model.report(tmp_path / name, **given)
        found = [attrs["id"] for attrs in Page((tmp_path / name).read_text(encoding="utf-8")).all("h2")]
        assert found == [key for key in SECTIONS if key in found]
        assert {"data", "learning", "errors", "ranking", "tail", "axes", "users", "settings"} <= set(found)
    text = (tmp_path / "whole.html").read_text(encoding="utf-8")
    assert ("Ratings inside their prediction intervals" in text) == (model.samples is not None)
    assert ("There are no reasons" in text) == (model.user_prior is not None)


IDS = {
    "text": [f"<i>{n}" for n in range(8)],
    "uuids": [uuid.UUID(int=n) for n in range(8)],
    "bytes": [b"\xff%d" % n for n in range(8)],
    "dates": [datetime.date(2024, 1, n + 1) for n in range(8)],
    "large": [2**63 - 1 - n for n in range(8)],
}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_ids_of_every_type(ids, tmp_path):
    users = np.repeat(np.arange(6), 8)
    ratings = np.random.default_rng(0).integers(1, 6, 48).astype(float)
    model = fastmf.fit((users, ids * 6, ratings), k=2, epochs=2)
    model.save(tmp_path / "m")
    fastmf.load(tmp_path / "m", mmap=True).report(tmp_path / "a.html", ratings=(users, ids * 6, ratings))
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert not Page(text).all("i")
    assert "highest of 8 ratings" in text


@pytest.mark.parametrize(("users", "items"), [(1, 9), (30, 10), (1, 1), (3, 1)])
def test_few_users_and_few_items(tmp_path, users, items):
    pairs = np.divmod(np.arange(users * items), items)
    model = fastmf.fit((*pairs, 1.0 + np.arange(users * items) % 5), k=2, epochs=2)
    model.report(tmp_path / "a.html")
    assert len(Page((tmp_path / "a.html").read_text(encoding="utf-8")).all("h2")) >= 8


def test_cold_rows_and_ratings_without_spread(tmp_path, kinds, rows):
    model = fastmf.fit((rows[0], rows[1], np.full(len(rows[0]), 4.0)), k=2, epochs=2)
    wide = fastmf.fit(rows, k=2, epochs=2, item_features=kinds).add_items(kinds.assign(item=kinds["item"] + 500))
    for each in (model, wide):
        each.report(tmp_path / "a.html", overwrite=True)
    assert "60 items in the model have no training ratings." in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_outputs_are_checked_first(model, tmp_path):
    (tmp_path / "a.html").write_text("mine")
    with pytest.raises(FileExistsError):
        model.report(tmp_path / "a.html", ratings="missing.parquet")
    assert (tmp_path / "a.html").read_text() == "mine"


def asked(model, **more):
    return Asked(**({"model": model, "ratings": None, "test": None, "titles": None, "features": None} | more))


def test_errors_are_those_of_evaluate(model, parts):
    held, found = held_out(model, parts[1]), fastmf.evaluate(model, parts[1])
    assert np.sqrt(np.mean((held.values - held.model) ** 2)) == pytest.approx(found["rmse"], rel=1e-5)
    assert np.sqrt(np.mean((held.values - held.biases) ** 2)) == pytest.approx(found["rmse_of_biases"], rel=1e-5)
    (section, _) = errors.errors(asked(model, test=parts[1]))
    rows = section.tables[0].rows
    assert [row[:2] for row in rows] == [(name, each["pairs"]) for name, each in found["by_activity"].items()]
    assert [row[2] for row in rows] == pytest.approx([each["rmse"] for each in found["by_activity"].values()], rel=1e-5)
    assert f"the RMSE is {found['rmse']:.4f}" in section.words[0]


def test_advice_on_factors_that_add_nothing(model, parts):
    useless = dataclasses.replace(
        model,
        user_factors=np.zeros_like(model.user_factors),
        item_factors=np.zeros_like(model.item_factors),
        user_bias=model.baseline.user_bias,
        item_bias=model.baseline.item_bias,
    )
    for each, expected in ((useless, True), (model, False)):
        advice = " ".join(errors.errors(asked(each, test=parts[1]))[0].advice)
        assert ("no better than biases alone" in advice) == expected


def test_advice_on_trained_and_unknown_pairs(model, parts, rows):
    assert "were trained on" in " ".join(errors.errors(asked(model, test=parts[0]))[0].advice)
    assert "were trained on" not in " ".join(errors.errors(asked(model, test=parts[1]))[0].advice)
    strangers = fastmf.Ratings.read((rows[0][:99] + 10_000, rows[1][:99], rows[2][:99]))
    assert "100 % of the users of these ratings are unknown" in " ".join(
        errors.errors(asked(model, test=strangers))[0].advice
    )


@pytest.mark.parametrize(("stretch", "word"), [(2.0, "spread too far"), (0.5, "timid"), (1.0, None)])
def test_advice_on_the_spread_of_predictions(model, stretch, word):
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(4_000)
    held = errors.Held(truth + rng.standard_normal(4_000), stretch * truth, None, truth, truth)
    advice = errors._advice_on_slope(model, held)
    assert (word in advice[0]) if word else advice == []


def history(*figures):
    return [
        Epoch(number=n, seconds=0.1, train_rmse=1 / n, validation_rmse=figure) for n, figure in enumerate(figures, 1)
    ]


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ((1.0, 0.9, 0.8), "The last epoch was the best"),
        ((1.0, 0.8, 0.9), "new ones worse (by 0.1000)"),
        ((1.0, 0.8, 0.801), "--epochs 2 would save 33 %"),
        ((None, None), "Fit with --validation 0.1"),
    ],
)
def test_advice_on_epochs(model, figures, said):
    section = fitting.learning(asked(dataclasses.replace(model, history=history(*figures), best_epoch=None)))
    assert said in " ".join(section.advice)


def test_the_command_names_what_is_not_the_default(parts):
    model = fastmf.fit(parts[0], k=5, solver="als", biases=False, epochs=2)
    assert fitting.command_of(model) == "fastmf fit RATINGS --solver als --k 5 --no-biases --epochs 2"


def test_the_command_says_that_choice_was_not_learned(parts):
    model = fastmf.fit(parts[0], k=2, choice=False)
    assert fitting.command_of(model).split()[-1] == "--no-choice"


def test_advice_names_settings_that_the_solver_has(model, parts):
    gibbs = fastmf.fit(parts[0], k=2, solver="gibbs", burn=2, samples=2)
    truth = np.random.default_rng(0).standard_normal(4_000)
    for each, has in ((model, True), (gibbs, False)):
        said = []
        for stretch in (0.5, 2.0):
            said += errors._advice_on_slope(each, errors.Held(truth, stretch * truth, None, truth, truth))
        said += errors._advice_on_whole(each, 1.0, 1.0, {"trained_pairs": 0, "unknown_users": 0, "unknown_items": 0}, 9)
        for figures in ((1.0, 0.9), (0.9, 1.0), (0.9, 0.901)):
            told = dataclasses.replace(each, history=history(*figures), best_epoch=None)
            said += fitting.learning(asked(told)).advice
        text = " ".join(said)
        assert [word in text for word in ("--reg", "--epochs", "--patience")] == [has] * 3
        assert ("--samples" in text) == (not has)


@pytest.mark.parametrize(("choice", "implicit"), [(True, False), (False, False), (False, True)])
def test_advice_on_lists_names_what_is_not_done_yet(parts, choice, implicit):
    how = {"solver": "implicit"} if implicit else {"choice": choice}
    model = fastmf.fit(parts[0], k=2, **how)
    text = " ".join(errors._advice_on_lists(model, 1.0))
    assert ("without --no-choice" in text) == (not choice and not implicit)
    assert ("Fit --solver implicit" in text) == choice
    (tail,) = lists._advice_on_tail(model, 0.5, [0.5, 0.99], 100)
    assert ("--rank-by rating" in tail) == choice
    assert lists._advice_on_tail(model, 0.5, [0.5, 0.55], 100) == []


@pytest.mark.parametrize(("equal", "remedy"), [("6 to 20", "features"), ("101 and more", "a larger --k")])
def test_advice_on_groups_depends_on_how_much_is_known(model, equal, remedy):
    groups = [(name, 99, [0.8 + 0.2 * (name == equal), 1.0, 1.0]) for name in ("1 to 5", "6 to 20", "101 and more")]
    (said,) = errors._advice_on_groups(model, groups, "users")
    assert said.startswith(f"Users with {equal} ratings are")
    assert remedy in said


@pytest.mark.parametrize("kind", ["users", "items"])
def test_advice_does_not_ask_for_features_that_are_there(model, rows, kinds, kind):
    groups = [("1 to 5", 99, [1.0, 1.0, 1.0]), ("6 to 20", 99, [0.8, 1.0, 1.0])]
    wide = fastmf.fit(rows, k=2, epochs=1, item_features=kinds)
    for each, there in ((model, False), (wide, kind == "items")):
        (said,) = errors._advice_on_groups(each, groups, kind)
        assert (f"--{kind[:-1]}-features" in said) == (not there)


def test_the_long_tail_by_hand(model):
    section = lists.tail(asked(model))
    found = model.recommend(n=10)
    known = int((model.item_counts > 0).sum())
    assert f"these lists hold {share(found['item_id'].nunique(), known)} of the items" in section.words[1]
    order = np.argsort(-model.item_counts, kind="stable")[: round(known / 10)]
    head = model.item_counts[order].sum() / model.item_counts.sum()
    assert f"got {share(head, 1)} of the ratings" in section.words[0]


def test_gini():
    assert lists._gini(np.ones(7)) == pytest.approx(0)
    assert lists._gini(np.array([0, 0, 0, 8.0])) == pytest.approx(0.75)
    assert lists._gini(np.zeros(3)) == 0


def test_five_users_from_little_to_much_rated(model, parts):
    section = lists.users(asked(model, ratings=parts[0]))
    names = list(dict.fromkeys(table.caption.split(":")[0] for table in section.tables))
    assert len(names) == 5
    counts = [model.user_counts[list(model.user_ids).index(int(name.split()[1]))] for name in names]
    assert counts == sorted(counts)
    assert len(section.tables) == 15


def test_shares():
    assert [share(*pair) for pair in ((0, 5), (1, 3), (1, 1_000), (1, 0))] == ["0 %", "33 %", "0.1 %", "0 %"]
    assert [share(part, 1_000) for part in (994, 996, 1_000)] == ["99 %", "over 99 %", "100 %"]


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_command_of_a_fit_with_defaults_has_no_settings(parts, solver):
    model = fastmf.fit(parts[0], solver=solver)
    assert fitting.command_of(model) == f"fastmf fit RATINGS --solver {solver}"


def page(model, tmp_path, **given):
    """Return the report of a model as text."""
    model.report(tmp_path / "page.html", overwrite=True, **given)
    return html.unescape((tmp_path / "page.html").read_text(encoding="utf-8"))


def test_ratings_of_another_table_are_noticed(model, parts, rows, tmp_path):
    whole = page(model, tmp_path, ratings=rows)
    assert "The 2,400 ratings given are not those that the model was fitted to: 0 are" in whole
    others = (rows[0], rows[1] + (rows[1] > 1030) * 5_000, rows[2])  # items that the model does not know
    text = page(model, tmp_path, ratings=others)
    assert re.search(r"2,400 ratings given are not those .*: 1,\d\d\d are of users or items", text)
    assert "ratings given are not" not in page(fastmf.fit(rows, k=2, epochs=2), tmp_path, ratings=rows)


def test_counts_of_known_items_are_not_cut(model, parts):
    caption = lists.users(asked(model)).tables[0].caption
    user = list(model.user_ids).index(int(caption.split(":")[0].split()[1]))
    assert f"of {model.user_counts[user]:,} known items" in caption


def test_implicit_models_have_reasons_with_and_without_their_pairs(rows, tmp_path):
    model = fastmf.fit(rows[:2], solver="implicit", k=3)
    for given in ({}, {"ratings": rows[:2]}):
        text = page(model, tmp_path, **given)
        assert "what moves the score of" in text
        assert "There are no reasons" not in text


def test_users_folded_in_make_no_impossible_numbers(model, tmp_path):
    new = model.fold_in(([10**6] * 2, [1000, 1001], [5.0, 2.0]))
    text = page(new, tmp_path)
    assert "Users were folded in since: the model now holds 1 user with ratings." in text
    assert "-" not in re.search(r"who know an item: (\S+) bits", text)[1]


def test_ratings_without_spread_are_said_to_have_none(rows, tmp_path):
    text = page(fastmf.fit((rows[0], rows[1], np.full(2_400, 3.0)), k=2, epochs=2), tmp_path)
    assert "All ratings are 3." in text
    assert "The factors explain nothing" in text
    assert "-0.0000" not in text


def test_one_true_rating_needs_no_comparison(model, parts):
    one = parts[1].take(np.arange(len(parts[1])) == 0)
    assert len(errors.errors(asked(model, test=one))[1].words) == 1


def test_advice_on_another_data_set(model, rows):
    strangers = fastmf.Ratings.read((rows[0][:99] + 10_000, rows[1][:99] + 10_000, rows[2][:99]))
    advice = " ".join(errors.errors(asked(model, test=strangers))[0].advice)
    assert advice.count("is it the same data set?") == 2
    assert "fold in" not in advice


def test_titles_that_match_no_item_are_refused_and_few_are_counted(model, tmp_path):
    with pytest.raises(DataError, match="none of the 2 titles is of an item of the model: ids are 'a', here 1000"):
        page(model, tmp_path, titles={"a": "A", "b": "B"})
    assert "1 of 60 items have a title" in page(model, tmp_path, titles={1000: "A", "b": "B"})


@pytest.mark.parametrize(
    ("given", "match"), [({"foo": 1}, "foo is for ratings= and test="), ({"user": "u"}, "user is for ratings=")]
)
def test_unknown_arguments_are_refused(model, tmp_path, given, match):
    with pytest.raises(ParameterError, match=match):
        page(model, tmp_path, **given)


@pytest.mark.parametrize("name", ["report", "report.txt", "-"])
def test_a_report_is_an_html_file(model, tmp_path, name):
    with pytest.raises(ParameterError, match=r"a report is an HTML file"):
        model.report(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_lists_that_are_worse_are_called_so(model):
    assert "are worse than" in errors._advice_on_lists(model, 0.5)[0]
    assert "are hardly better than" in errors._advice_on_lists(model, 1.0)[0]


def test_ratings_are_read_as_they_were_for_the_fit(rows, tmp_path):
    table = pd.DataFrame({"u": rows[0], "i": rows[1], "r": rows[2], "w": 1.0 + np.arange(2_400) % 3})
    model = fastmf.fit(table, user="u", item="i", rating="r", weight="w", k=2, epochs=2)
    text = page(model, tmp_path, ratings=table)
    assert "what moves the prediction of" in text
    assert "ratings given are not" not in text


def test_figures_of_trained_pairs_lead_to_no_other_advice(model, parts):
    _, truth = errors.errors(asked(model, test=parts[0]))
    assert truth.advice == []
    assert "were trained on" in errors.ranking(asked(model, test=parts[0])).advice[0]
    implicit = fastmf.fit(parts[0], solver="implicit", k=2, epochs=2)
    assert "were trained on" in errors.ranking(asked(implicit, test=parts[0])).advice[0]


def test_training_errors_that_rise_are_noticed(model):
    worse = [Epoch(number=n, seconds=0.1, train_rmse=float(n)) for n in (1, 2)]
    for epochs, said in ((worse, True), (history(1.0, 0.9), False)):
        section = fitting.learning(asked(dataclasses.replace(model, history=epochs, best_epoch=None)))
        assert ("It rose" in " ".join(section.words)) == said
