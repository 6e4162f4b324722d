"The rating server under hostile text, strangers, full disks and kill -9; studies of odd numbers"

import asyncio
import base64
import hashlib
import html
import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from arabic_dialog.rating.answers import About, Entry, Links, StudyFile, StudyItem, create_study
from arabic_dialog.core.records import Turn, UserError
from arabic_dialog.commands.rate import agreement_so_far
from arabic_dialog.rating.design import Origin, Slot, load_criteria
from arabic_dialog.rating.exchange import import_returned, progress, ratings_of
from arabic_dialog.rating.page import OWNER_COEFFICIENTS, make_app, offline_page
from arabic_dialog.rating.page import save_offline_pages
from arabic_dialog.rating.study import StudyPlan, assign, balanced_order, load_links, new_study
from arabic_dialog.rating.study import place_slots
from rating_load import FIELDS, load, lost, make_study, material, serving

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><svg onload=alert(1)>",
    "<img src=x onerror=alert(1)>",
    "\u202eعكس\u202c",
    "\u2066\u2067x",
    "]]>",
    "{{7*7}}",
    "&lt;b&gt;",
    "س" * 1_000_000,
    "\u2028\u2029\x00",
    "",
]


def hostile_study(path, raters=("hala", "omar")):
    "A study whose every text is an attack; its file and its links"
    items = [
        StudyItem(
            item_id=f"i{n}",
            turns=(Turn("user", t), Turn("assistant", t)),
            conversation_id=f"c{n}",
            turn=1,
            model=f"secret-model-{n}",
            seed=0,
        )
        for n, t in enumerate(HOSTILE)
    ]
    about = About("s1", HOSTILE[0], "reply", "ar", load_criteria())
    slots = [Slot(n, i.item_id, "item") for n, i in enumerate(items, 1)]
    slots.append(Slot(len(items) + 1, "i0", "repeat"))
    links = Links({r: f"{r}-link" for r in raters}, "owner-link")
    return create_study(path, about, items, links, {r: slots for r in raters})


@pytest.fixture
def client(tmp_path):
    with TestClient(make_app(hostile_study(tmp_path / "study.sqlite"))) as c:
        yield c


def give(client, link="hala-link", headers=None, **values):
    return client.post(
        f"/r/{link}/answers",
        json={
            "position": 1,
            "field": "fluency",
            "value": 4,
            "tab": "desk",
            "seen": 0,
            "visit": "v",
            "seconds": 1,
        }
        | values,
        headers=headers,
    )


def test_hostile_text_arrives_whole_and_is_never_markup(client):
    page = client.get("/r/hala-link").text
    for n, text in enumerate(HOSTILE):
        reply = client.get(f"/r/hala-link/items/{n + 1}")
        assert (
            reply.headers["content-type"] == "application/json"
            and reply.headers["x-content-type-options"] == "nosniff"
        )
        assert reply.json()["turns"][1]["text"] == text
    give(client, field="comment", value=HOSTILE[2])
    owner = client.get("/o/owner-link").text
    assert html.escape(HOSTILE[2], quote=False) in owner
    for p in (page, owner):
        assert not re.search(r"<script>alert|<img src=x|<svg", p)


def test_a_wrong_link_learns_nothing(client):
    addresses = [
        "/",
        "/r",
        "/r/",
        "/r/nobody",
        "/r/owner-link",
        "/r/hala",
        "/o/hala-link",
        "/o/nobody",
        "/o/",
        "/r/nobody/study",
        "/r/nobody/items/1",
        "/r/nobody/changes",
        "/o/nobody/ratings.json",
        "/static/none",
        "/static/..%2f..%2fstudy.sqlite",
        "/docs",
        "/r/hala-link%00",
        "/r/" + "x" * 5000,
    ]
    got = [client.get(a) for a in addresses]
    assert {g.status_code for g in got} == {404} and len({g.content for g in got}) == 1
    assert len({tuple(sorted((k, v) for k, v in g.headers.items())) for g in got}) == 1
    assert {give(client, link).status_code for link in ("nobody", "owner-link", "hala")} == {404}
    assert {
        client.request(m, "/r/hala-link").status_code for m in ("PUT", "DELETE", "PATCH", "OPTIONS")
    } == {405}


def test_raters_neither_see_nor_change_each_other(client):
    assert give(client, "hala-link", field="comment", value="لي وحدي").status_code == 200
    seen = "".join(
        client.get(f"/r/omar-link{a}").text for a in ("", "/study", "/changes", "/items/1")
    )
    assert (
        "لي وحدي" not in seen
        and "hala" not in seen
        and "secret-model" not in seen
        and '"repeat"' not in seen
        and '"kind"' not in seen
    )
    assert (
        give(client, "omar-link", rater="hala", field="comment", value="دخيل").status_code == 200
    )  # a name in the answer is not listened to
    said = {a[0]: a[3] for a in client.app.state.pages.study.entries() if a[2] == "comment"}
    assert said == {"hala": "لي وحدي", "omar": "دخيل"}


@pytest.mark.parametrize(
    "headers, code",
    [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": ""}, 415),
        (
            {
                "origin": "http://testserver",
                "sec-fetch-site": "same-origin",
                "content-type": "application/json; charset=utf-8",
            },
            200,
        ),
    ],
)
def test_another_site_cannot_answer_for_a_rater(client, headers, code):
    assert give(client, headers=headers).status_code == code
    assert len(client.app.state.pages.study.entries()) == (code == 200)


@pytest.mark.parametrize(
    "change",
    [
        dict(value=6),
        dict(value=-1),
        dict(value="4"),
        dict(value=4.0),
        dict(value=True),
        dict(value=None),
        dict(value=[4]),
        dict(field="other"),
        dict(field=["fluency"]),
        dict(position=0),
        dict(position=99),
        dict(position="1"),
        dict(position=10**30),
        dict(seen=-0.5),
        dict(seen=10**30),
        dict(seconds=-1),
        dict(seconds=1e99),
        dict(tab="x" * 65),
        dict(visit=3),
        dict(field="flag", value=2),
        dict(field="comment", value="x" * 4001),
        dict(field="comment", value="\ud800"),
    ],
)
def test_what_is_no_answer_is_refused(client, change):
    body = json.dumps(
        {
            "position": 1,
            "field": "fluency",
            "value": 4,
            "tab": "desk",
            "seen": 0,
            "visit": "v",
            "seconds": 1,
        }
        | change
    )
    reply = client.post(
        "/r/hala-link/answers", content=body, headers={"content-type": "application/json"}
    )
    assert (
        reply.status_code == 400
        and reply.json()["error"] == "value"
        and not client.app.state.pages.study.entries()
    ), reply.text
    assert give(client).status_code == 200


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"position": 1}', b"[" * 60000]
)
def test_what_is_no_json_is_refused(client, body):
    assert (
        client.post(
            "/r/hala-link/answers", content=body, headers={"content-type": "application/json"}
        ).status_code
        == 400
    )


def test_bodies_have_a_limit_whatever_they_say_of_themselves(client):
    head = {"content-type": "application/json"}
    assert (
        client.post("/r/hala-link/answers", content=b"x" * 70_000, headers=head).status_code == 413
    )
    assert (
        client.post(
            "/r/hala-link/answers", content=(b"x" * 1000 for _ in range(100)), headers=head
        ).status_code
        == 413
    )  # in pieces, without a length
    assert (
        client.post(
            "/r/hala-link/answers", content=b"{}", headers=head | {"content-length": "many"}
        ).status_code
        == 413
    )


def test_every_answer_carries_the_policy(client):
    for a in (
        "/r/hala-link",
        "/r/nobody",
        "/o/owner-link",
        "/r/hala-link/study",
        "/static/rate.js",
        "/static/rate.css",
        "/static/noto-sans-arabic.ttf",
    ):
        h = client.get(a).headers
        policy = h["content-security-policy"]
        assert (
            "default-src 'none'" in policy
            and "unsafe" not in policy
            and "http" not in policy
            and "frame-ancestors 'none'" in policy
        )
        assert h["referrer-policy"] == "no-referrer" and (
            "no-store" in h["cache-control"]
        ) != a.startswith("/static")
    page = client.get("/r/hala-link").text + client.get("/o/owner-link").text
    assert not re.search(
        r"\son\w+=|style=|javascript:|//",
        re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.S).replace(
            "<!doctype html>", ""
        ),
    )


def test_two_windows_of_one_rater_are_told_and_the_last_answer_counts(client):
    desk = give(client, tab="desk", value=2).json()
    phone = give(client, tab="phone", value=5, seen=0).json()
    assert (
        not desk["elsewhere"]
        and phone["elsewhere"]
        and phone["changes"] == [[1, "fluency", 2, desk["revision"], "desk"]]
    )
    assert client.get(f"/r/hala-link/changes?since={desk['revision']}").json()["changes"] == [
        [1, "fluency", 5, phone["revision"], "phone"]
    ]  # what the first window is shown
    again = give(client, tab="desk", value=2, seen=phone["revision"], position=2).json()
    assert not again["elsewhere"] and not again["changes"]
    assert client.get("/r/hala-link/study").json()["answers"][0][:3] == [1, "fluency", 5]


def test_a_full_disk_is_said_and_costs_no_acknowledged_answer(client):
    study = client.app.state.pages.writer.file
    (pages,) = study.rows("PRAGMA page_count")
    study.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    study.db.execute(f"PRAGMA max_page_count = {pages[0]}")
    kept = []
    for k in range(400):
        reply = give(client, position=1 + k % 10, field="comment", value=f"{k} " + "ن" * 900)
        if reply.status_code != 200:
            break
        kept.append(reply.json()["revision"])
    assert kept and reply.status_code == 507 and reply.json()["error"] == "full"
    study.db.execute("PRAGMA max_page_count = 1000000")
    assert give(client).status_code == 200
    assert {*kept} < {r for (r,) in study.rows("SELECT revision FROM answers")}


def test_a_study_that_may_not_be_written_is_said(client):
    study = client.app.state.pages.writer.file
    study.db.execute("PRAGMA query_only = ON")
    assert give(client).status_code == 503 and give(client).json()["error"] == "file"
    study.db.execute("PRAGMA query_only = OFF")
    assert give(client).status_code == 200


def test_a_read_only_folder_and_other_files_are_named(tmp_path):
    folder = Path(tempfile.mkdtemp())  # reachable by everybody, as pytest's own are not
    try:
        path = hostile_study(folder / "study.sqlite")
        os.chmod(path, 0o444)
        os.chmod(folder, 0o555)
        code = (
            "import os, sqlite3, sys; from pathlib import Path; sys.path[:0] = [sys.argv[2]]\n"
            "from arabic_dialog.rating.answers import connect\n"
            "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
            "try: connect(Path(sys.argv[1]))\nexcept ValueError as e: print(e)"
        )
        said = subprocess.run(
            [sys.executable, "-c", code, path, Path(__file__).resolve().parents[2]],
            capture_output=True,
            text=True,
        )
        assert "study file" in said.stdout and (
            "may not be written" in said.stdout or "cannot be opened" in said.stdout
        ), said
    finally:
        os.chmod(folder, 0o755)
        shutil.rmtree(folder)
    path = hostile_study(tmp_path / "study.sqlite")
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(UserError, match="format 9.*reads format 1"):
        StudyFile(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="not a study file"):
        StudyFile(path)
    (tmp_path / "other.sqlite").write_bytes(b"SQLite format 3\x00" + b"x" * 5000)
    with pytest.raises(UserError, match="not a study file|damaged"):
        StudyFile(tmp_path / "other.sqlite")


def test_fifty_raters_at_once_and_kill_9_lose_nothing_and_log_no_secret(tmp_path):
    raters = [f"r{k}" for k in range(50)]
    path, links = make_study(tmp_path / "human", raters, 20)
    with serving(tmp_path / "human") as (server, port):

        async def kill():
            await asyncio.sleep(1.5)
            server.kill()

        got, times, errors = load(port, links.raters, 20, 4, kill, owner=links.owner)
        log = server.stdout.read()
    assert sum(map(len, got.values())) > 100 and all(got.values()) and not lost(path, got)
    assert len(errors) in (50, 51) and all(code == 0 for code, _ in errors), errors[
        :3
    ]  # the end of the server, seen once by each
    assert not any(s in log for s in [*links.raters.values(), links.owner]), log
    with serving(tmp_path / "human") as (server, port):
        got2, _, errors = load(port, links.raters, 20, 0.5)
        assert not errors and not lost(path, got2) and not lost(path, got)


def test_the_owner_sees_agreement_and_raters_do_not(tmp_path):
    path, links = make_study(tmp_path / "human", ["hala", "omar"], 20)
    with StudyFile(path) as s:
        s.put(
            [
                Entry(r, t.position, c, 1 + (ord(t.item_id[1]) + ord(t.item_id[2])) % 5)
                for r in s.raters
                for t in s.slots(r)
                for c in ("fluency", "overall")
            ]
        )
    with TestClient(make_app(path, agreement_so_far)) as client:
        client.app.state.pages.agreement.wait = 60
        owner = client.get(f"/o/{links.owner}?lang=en").text
        assert (
            owner.count('<bdi dir="ltr">1.00') == 2 * len(OWNER_COEFFICIENTS)
            and "Overall quality" in owner
            and "Relevance" not in owner
        )
        seen = "".join(
            client.get(f"/r/{links.raters['hala']}{a}").text for a in ("", "/study", "/changes")
        )
        assert "1.00" not in seen and "agreement" not in seen


def test_links_are_secret_and_can_be_renewed(tmp_path):
    path, links = make_study(tmp_path / "human", ["hala", "omar"])
    assert len({*links.raters.values(), links.owner}) == 3 and all(
        len(s) >= 32 for s in [*links.raters.values(), links.owner]
    )
    for p in (path, tmp_path / "human" / "links.json"):
        assert stat.S_IMODE(p.stat().st_mode) == 0o600
    assert (tmp_path / "human" / ".gitignore").read_text() == "*\n"
    assert not any(s.encode() in path.read_bytes() for s in [*links.raters.values(), links.owner])
    with StudyFile(path) as study:
        study.renew("hala", "new")
        study.links = (0, [])
        study.links = (float("-inf"), [])
        assert (
            study.who("new") == "hala"
            and study.who(links.raters["hala"]) is None
            and study.who(links.raters["omar"]) == "omar"
        )
        with pytest.raises(UserError, match="no rater 'eve'"):
            study.renew("eve", "x")


def test_the_file_that_needs_no_server_allows_itself_and_nothing_else(tmp_path):
    with StudyFile(hostile_study(tmp_path / "study.sqlite")) as study:
        page = offline_page(study, "hala")
        assert [p.name for p in save_offline_pages(study, tmp_path / "out")] == [
            "rate-hala.html",
            "rate-omar.html",
        ]
        with pytest.raises(UserError, match="no rater 'eve'"):
            offline_page(study, "eve")
    policy = html.unescape(re.search(r'Security-Policy" content="([^"]+)"', page)[1])
    for element in ("style", "script"):
        body = re.search(rf"<{element}>(.*?)</{element}>", page, re.S)[1]
        assert (
            f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'"
            in policy
        )
    assert "unsafe" not in policy and "connect-src" not in policy and "default-src 'none'" in policy
    assert (
        len(re.findall(r"<script\b", page)) == 2
        and "http://" not in page
        and "https://" not in page
        and "secret-model" not in page
        and "omar" not in page
    )
    assert (
        json.loads(re.search(r'id="boot">(.*?)</script>', page, re.S)[1])["items"][8][1]["text"]
        == HOSTILE[8]
    )


@pytest.mark.parametrize(
    "n_models, n_turns, n_raters", [(1, 7, 2), (2, 10, 3), (3, 8, 3), (4, 9, 5), (7, 6, 14)]
)
def test_orders_are_balanced_whatever_the_numbers(n_models, n_turns, n_raters):
    key = [
        Origin(f"i{m}-{t}", f"c{t}", 1, f"m{m}", 0) for m in range(n_models) for t in range(n_turns)
    ]
    model = {o.item_id: o.model for o in key}
    turn = {o.item_id: o.conversation_id for o in key}
    orders = [balanced_order(key, who, 3) for who in range(n_raters)]
    assert (
        all(sorted(o) == sorted(model) for o in orders)
        and len({tuple(o) for o in orders}) == n_raters
    )
    blocks = [o[b : b + n_models] for o in orders for b in range(0, len(o), n_models)]
    assert all(len({model[i] for i in b}) == n_models for b in blocks)
    where = Counter((model[i], k) for b in blocks for k, i in enumerate(b))
    assert max(where.values()) - min(where.values()) <= len(blocks) // n_models * 0.5 + 3
    if n_turns >= n_models:
        assert all(len({turn[i] for i in b}) == len(b) for b in blocks)


@pytest.mark.parametrize(
    "n, checks, repeats", [(2, 0, 1), (3, 1, 1), (10, 3, 5), (40, 2, 4), (1, 0, 0)]
)
def test_repeats_come_late_and_checks_are_spread(n, checks, repeats):
    order = [f"i{k}" for k in range(n)]
    slots = place_slots(
        order,
        {i: f"m{k % 2}" for k, i in enumerate(order)},
        [f"c{k}" for k in range(checks)],
        repeats,
        who=1,
    )
    at = {s.item_id: s.position for s in slots if s.kind == "item"}
    assert [s.position for s in slots] == [*range(1, n + checks + repeats + 1)] and [
        s.item_id for s in slots if s.kind == "item"
    ] == order
    assert (
        all(s.position - at[s.item_id] >= n // 2 for s in slots if s.kind == "repeat")
        and len({s.item_id for s in slots if s.kind == "repeat"}) == repeats
    )
    assert [s.item_id for s in slots if s.kind == "check"] == [f"c{k}" for k in range(checks)]
    with pytest.raises(UserError, match="at most"):
        place_slots(order, {}, [], n, 0)


def test_a_study_is_drawn_evenly_and_is_the_same_again(tmp_path):
    rows, talks = material(24, ("a", "b", "c"))
    made = []
    for name in ("one", "two"):
        with StudyFile(
            new_study(
                tmp_path / name,
                rows,
                talks,
                ["hala", "omar", "rim"],
                StudyPlan(36, repeats=0.1, checks=0.1, seed=5),
            )
        ) as s:
            made.append((s.items(), [s.slots(r) for r in s.raters]))
    assert made[0] == made[1]
    items = [i for i in made[0][0] if i.model]
    topic = {t.id: t.scenario.topic for t in talks}
    country = {t.id: t.scenario.country for t in talks}
    for what in (
        lambda i: i.model,
        lambda i: topic[i.conversation_id],
        lambda i: country[i.conversation_id],
    ):
        counts = Counter(map(what, items)).values()
        assert max(counts) - min(counts) <= 3
    assert [len(s) for s in made[0][1]] == [36 + 4 + 4] * 3
    with pytest.raises(UserError, match="there already"):
        new_study(tmp_path / "one", rows, talks, ["hala"], StudyPlan(6))
    with pytest.raises(UserError, match="there already"):
        new_study(tmp_path / "one", rows, talks, ["eve"], StudyPlan(6))
    assert set(load_links(tmp_path / "one").raters) == {
        "hala",
        "omar",
        "rim",
    }  # and the old links stand


def test_checks_repeats_and_cannot_judge_are_no_ratings(tmp_path):
    path, _ = make_study(tmp_path / "human", ["hala", "omar"], 20, repeats=0.2, checks=0.1)
    with StudyFile(path) as study:
        expected = {i.item_id: i.expected for i in study.items()}
        slots = study.slots("hala")
        said = {
            s.position: expected[s.item_id]
            if s.kind == "check"
            else 0
            if s.position % 5 == 0
            else 3
            for s in slots
        }
        study.put([Entry("hala", s.position, c, said[s.position]) for s in slots for c in FIELDS])
        ratings = ratings_of(study)
        p = progress(study)[0]
        assert (
            len(ratings) == 20 * len(FIELDS)
            and {r.value for r in ratings} == {3, None}
            and len(ratings_of(study, "repeat")) == 4 * len(FIELDS)
        )
        assert (
            p.done == len(slots) == 26
            and p.passed == p.checks == 2
            and not any(expected[r.item_id] for r in ratings)
        )


def test_all_models_of_a_turn_go_to_the_same_raters():
    key = [Origin(f"i{m}-{t}", f"c{t}", 1, f"m{m}", 0) for m in range(3) for t in range(12)]
    parts = assign(key, 5, per_item=2)
    assert (
        all(Counter(o.conversation_id for o in p).most_common()[-1][1] == 3 for p in parts)
        and sum(map(len, parts)) == 2 * len(key)
        and max(map(len, parts)) - min(map(len, parts)) <= 2 * 3
    )
    with pytest.raises(UserError, match="6 raters per item"):
        assign(key, 5, 6)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff",
        b"[1]",
        b'{"kind": "arabic-dialog ratings", "format": 1, "study": "s1", "rater": "hala", '
        b'"answers": [{"position": 1, "field": "fluency", "value": 4, "at": NaN}]}',
        b'{"kind": "arabic-dialog ratings", "format": 1, "study": "s1", "rater": ["hala"], '
        b'"answers": []}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_changes_nothing(tmp_path, damage):
    (tmp_path / "ratings.json").write_bytes(damage)
    with StudyFile(hostile_study(tmp_path / "study.sqlite")) as study:
        with pytest.raises(UserError):
            import_returned(study, tmp_path / "ratings.json")
        assert not study.entries()
