"""`final`: a link to the last checkpoint, or a file that names it."""

import pytest
from tso import export
from tso.store import RunStore


@pytest.mark.parametrize("taken", [False, True])
def test_final_names_the_last_checkpoint_even_where_its_name_is_taken(tmp_path, taken):
    if taken:
        (tmp_path / "final").mkdir()
        (tmp_path / "final" / "mine.txt").touch()
    else:
        (tmp_path / "final.txt").write_text("an/older/one")
    (tmp_path / "iteration-1" / "checkpoint").mkdir(parents=True)
    with RunStore.open_or_create(tmp_path, {}) as store:
        row = (1, "policy", "iteration-1/checkpoint", "sha")
        store.commit(1, "train", {"checkpoints": (["iteration", "role", "path", "sha256"], [row])})
        export.link_final(store, 1)
    assert export.final(tmp_path).resolve() == tmp_path / "iteration-1" / "checkpoint"
    left = {p.name for p in tmp_path.iterdir() if not p.name.startswith("run.sqlite")}
    assert left == {"iteration-1", "final", *(["final.txt"] if taken else [])}
