"""Training configurations, learning rates and parameter groups."""

import math
from importlib import resources
from pathlib import Path

import pytest
import torch

from edgeface.errors import ConfigError, UnknownNameError
from edgeface.losses import LOSSES
from edgeface.models import MODELS, build_model
from edgeface.training import TrainConfig, load_config, recipe_names
from edgeface.training.config import OptimizerConfig
from edgeface.training.device import pick_device, pick_precision
from edgeface.training.optimizer import build_optimizer, learning_rate


def test_overrides_beat_the_file_and_the_file_beats_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[run]\nepochs = 7\nseed = 3\n[model]\nname = "mobilefacenet"\n')
    config = load_config(tmp_path / "a.toml", ["run.seed=4", "data.path=faces/x.tar", "optimizer.lr=1"], "demo")
    assert (config.run.epochs, config.run.seed, config.model.name) == (7, 4, "mobilefacenet")
    assert config.data.path == "faces/x.tar"
    assert config.optimizer.lr == 1.0
    assert isinstance(config.optimizer.lr, float)
    assert config.run.log_steps == load_config(recipe="demo").run.log_steps


@pytest.mark.parametrize("recipe", recipe_names())
def test_recipes_name_things_that_exist(recipe: str) -> None:
    config = load_config(recipe=recipe)
    assert config.model.name in MODELS
    assert config.loss.name in LOSSES
    assert TrainConfig.from_dict(config.to_dict()) == config
    text = (resources.files("edgeface.training") / "recipes" / f"{recipe}.toml").read_text()
    assert all(f"# {word}:" in text for word in ("Data", "Hardware", "Time", "Reaches"))


def test_unknown_recipe() -> None:
    with pytest.raises(UnknownNameError, match="unknown recipe 'big'; choose one of: arcface-mobile, arcface-r50"):
        load_config(recipe="big")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "optimizer.learning_rate=1",
            r"unknown config key 'optimizer.learning_rate' in the overrides; nearest: .*optimizer",
        ),
        ("lr=1", r"unknown config key 'lr' .* nearest: optimizer.lr"),
        ("run.epoch=1", r"nearest: run.epochs"),
        ("train.epochs=1", r"unknown config key 'train.epochs' .* nearest: run.epochs"),
        ("run.epochs", r"has no value; write it as key=value"),
        ("run.epochs=many", r"run.epochs = 'many' is of type str; it should be int"),
        ("run.epochs=2.5", r"run.epochs = 2.5 is of type float; it should be int"),
        ("run.epochs=true", r"is of type bool; it should be int"),
        ("run.epochs=0", r"run.epochs = 0 is out of range; use a value from 1"),
        ("optimizer.lr=nan", r"optimizer.lr = nan is not finite"),
        ("optimizer.lr=-1", r"out of range"),
        ("optimizer.name=adam", r"optimizer.name = 'adam' is not a choice; use one of: adamw, sgd"),
        ("augment.flip=1.5", r"augment.flip = 1.5 is out of range; use a value from 0 to 1"),
        ("loss.weight=0", r"nothing to learn"),
        ("model.name=resnet", r"unknown model 'resnet'; choose one of: .*mobilefacenet"),
        ("loss.name=arc", r"unknown loss 'arc'; choose one of: adaface, arcface"),
        ("model.name=3", r"model.name = 3 is of type int; it should be str"),
    ],
)
def test_bad_overrides(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(overrides=[override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[run\n", "is not valid TOML"),
        ("epochs = 3\n", "unknown config key 'epochs' .* nearest: run.epochs"),
        ("[run]\nepochs = [1]\n", "run.epochs = \\[1\\] is of type list"),
        ("[typo]\nx = 1\n", "unknown config key 'typo.x' in .*; the sections are data, model, loss"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "a.toml")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load_config(tmp_path / "a.toml")


def test_learning_rate_rises_linearly_and_falls_along_a_cosine() -> None:
    config = OptimizerConfig(lr=2.0, final_lr=0.1)
    rates = [learning_rate(step, 104, 4, config.lr, config.final_lr) for step in range(104)]
    assert rates[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    for step in range(4, 104):
        assert rates[step] == pytest.approx(0.2 + 1.8 * (1 + math.cos(math.pi * (step - 4) / 99)) / 2)
    assert rates[-1] == pytest.approx(0.2)
    assert learning_rate(0, 1, 0, config.lr, config.final_lr) == 2.0


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_only_matrices_and_kernels_decay(name: str) -> None:
    model = build_model("mobilefacenet", 16)
    groups = build_optimizer([*model.parameters()], OptimizerConfig(name=name, weight_decay=0.3)).param_groups  # type: ignore[arg-type]
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            is_kernel = isinstance(module, torch.nn.Conv2d)
            assert decay.pop(id(parameter)) == (0.3 if is_kernel else 0.0)
    assert not decay


def test_devices_and_precisions() -> None:
    cpu = pick_device("cpu")
    assert pick_precision("auto", cpu) is torch.float32
    assert pick_precision("bfloat16", cpu) is torch.bfloat16
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ConfigError, match="float16"):
        pick_precision("float16", cpu)
    assert pick_precision("float16", torch.device("cuda")) is torch.float16
