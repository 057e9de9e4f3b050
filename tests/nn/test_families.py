"""Every family from start to end: pre-training losses fall, and what is exported opens without this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM

from dupmae.nn.backbone import Backbone
from dupmae.nn.objectives import Batch, DuplexMAE
from dupmae.nn.precision import LowPrecision
from dupmae.settings import Masking, Objective
from tests.reference.tiny import KINDS, MASK, random_batch, tiny_model

STEPS = 30
# Loads each folder with transformers alone and compares with what is saved beside it.
RELOAD = """
import sys, torch
from pathlib import Path
from transformers import AutoModel, AutoModelForMaskedLM
for folder in sorted(Path(sys.argv[1]).iterdir()):
    saved = torch.load(folder / "expected.pt", weights_only=True)
    lm, info = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], (folder.name, info)
    found = lm(input_ids=saved["ids"]).logits
    torch.testing.assert_close(found, saved["logits"], rtol=1e-4, atol=1e-4, msg=folder.name)
    states = AutoModel.from_pretrained(folder)(input_ids=saved["ids"]).last_hidden_state
    torch.testing.assert_close(states, saved["hidden"], rtol=1e-4, atol=1e-4, msg=folder.name)
assert "dupmae" not in sys.modules
"""


@pytest.mark.parametrize(
    ("objective", "dtype"), [("mlm", torch.float32), ("dupmae", torch.float32), ("dupmae", torch.bfloat16)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_losses_fall(kind: str, objective: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = DuplexMAE(
        Backbone(tiny_model(kind, dtype=torch.float32, dropout=0.1)),
        Objective.model_validate({"kind": objective}),
        Masking(),
        mask_id=MASK,
        seed=0,
    )
    low = LowPrecision(model.train(), dtype)
    optimizer = torch.optim.AdamW(low.parameters(), lr=2e-2)
    batch = Batch(**random_batch(kind, [20, 24, 9, 15], 0))
    losses = []
    for step in range(STEPS):
        terms = low(batch, model.draw(batch, step))
        optimizer.zero_grad()
        terms["loss"].backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in low.parameters())
        optimizer.step()
        losses.append({name: value.item() for name, value in terms.items() if "accuracy" not in name})
    for name in losses[0]:
        first, last = (sum(values[name] for values in part) for part in (losses[:6], losses[-6:]))
        assert last < 0.95 * first, name


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    for kind in KINDS:
        torch.manual_seed(0)
        backbone = Backbone(tiny_model(kind, dtype=torch.float32)).eval()
        batch = random_batch(kind, [12, 12], 0)
        with torch.no_grad():
            hidden = backbone.hidden(batch["input_ids"], batch["valid"])
            logits = backbone.output(backbone.transform(hidden))
        backbone.lm.save_pretrained(folder / kind)
        saved = {"ids": batch["input_ids"], "hidden": hidden, "logits": logits}
        torch.save(saved, folder / kind / "expected.pt")
    return folder


def test_exports_open_without_this_package(exported: Path) -> None:
    for config in exported.glob("*/config.json"):
        assert "dupmae" not in config.read_text()
    done = subprocess.run([sys.executable, "-c", RELOAD, str(exported)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_exports_train_on(kind: str, exported: Path) -> None:
    """A reloaded export is a backbone again, with the same states."""
    saved = torch.load(exported / kind / "expected.pt", weights_only=True)
    backbone = Backbone(AutoModelForMaskedLM.from_pretrained(exported / kind))
    with torch.no_grad():
        hidden = backbone.hidden(saved["ids"], torch.ones_like(saved["ids"], dtype=torch.bool))
    torch.testing.assert_close(hidden, saved["hidden"])
