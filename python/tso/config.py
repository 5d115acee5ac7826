"""The options of a run: one frozen section a stage.

Knows names, types and possible values, and nothing of what a stage does with them. How they are read is in settings.py.
A test fails if an option here is read nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Check = tuple[Callable[[Any], bool], str]

POSITIVE: Check = (lambda x: 0 < x < math.inf, "must be greater than 0, and finite")
NOT_NEGATIVE: Check = (lambda x: 0 <= x < math.inf, "must not be negative, and finite")
MOST = 2**31 - 1  # of whole numbers: what every library under us can count with
BOUND: Check = (lambda x: x >= 0, "must not be negative; inf is no bound")
SHARE: Check = (lambda x: 0 <= x <= 1, "must be between 0 and 1")
LOG_ODDS: Check = (lambda x: -100 <= x <= 100, "must be log-odds between -100 and 100")
LOG_ODDS_STEP: Check = (lambda x: 0 <= x <= 100, "must be log-odds between 0 and 100")
# Below it, dividing scores by the temperature overflows; there is nothing left to choose by then.
TEMPERATURE: Check = (lambda x: x == 0 or 0.001 <= x < math.inf, "must be 0 (greedy), or at least 0.001 and finite")
THREADS: Check = (lambda x: 1 <= x <= 1024, "must be between 1 and 1024")
NAMED: Check = (lambda x: bool(x.strip()), "must not be empty")
ODD: Check = (lambda x: x > 0 and x % 2 == 1, "must be an odd number, so that votes have a majority")
# As a share, or as a number; a number says at once how many calls may be paid for.
BUDGET: Check = (
    lambda x: 0 < x <= 1 or (x < math.inf and x == int(x) > 1),
    "must be a share above 0 and up to 1, or a whole number of pairs from 2",
)


def one_of(*names: str) -> Check:
    return (lambda x: x in names, "must be one of " + ", ".join(names))


def option(default: Any, check: Check | None = None) -> Any:
    return field(default=default, metadata={"check": check})


@dataclass(frozen=True)
class RunSection:
    # Folder of the run; made if absent, resumed if it holds this run.
    output_dir: str = option("runs/quickstart", NAMED)
    seed: int = option(0, NOT_NEGATIVE)  # of prompt choice, draws and training
    # Rounds of sample, pair, correct, train, update; may be raised on a finished run.
    iterations: int = option(2, POSITIVE)


@dataclass(frozen=True)
class ModelSection:
    name_or_path: str = option("", NAMED)  # a hub name, or a folder
    gguf_file: str | None = option(None)  # file inside name_or_path; converted to safetensors once
    revision: str | None = option(None)  # branch, tag or commit of a hub model; None: the hub's default branch
    dtype: str = option("float32", one_of("float32", "bfloat16"))  # weights during training, and on disk
    scale: float | None = option(None, POSITIVE)  # billions of parameters; counted when not given
    family: str | None = option(None, NAMED)  # name of its model family; sizes are compared with cells of the same name
    device: str = option("auto", NAMED)  # cpu, cuda, cuda:1, ...; auto: the first CUDA device, else the CPU
    threads: int | None = option(None, THREADS)  # CPU threads of the numerical work; None: the cores there are


@dataclass(frozen=True)
class DataSection:
    # File or folder of rows: JSONL (also .gz), JSON, Parquet, Arrow, or saved by `datasets`.
    prompts: str = option("", NAMED)
    prompt_column: str = option("prompt", NAMED)  # text, or a list of {role, content} messages that ends with the user
    human_column: str = option("human", NAMED)  # a person's answer, or a list of them; none: not read
    id_column: str = option("id", NAMED)  # the prompt's name, unique; none: not read
    # Says train or heldout (test and validation count as heldout); none: not read.
    split_column: str = option("split", NAMED)
    # Share of the prompts that is held out where no row names its split.
    holdout: float = option(0.2, (lambda x: 0 <= x < 1, "must be at least 0 and below 1"))
    max_prompt_tokens: int = option(768, POSITIVE)  # longer prompts are left out; tokens, chat template included
    max_prompts: int | None = option(None, POSITIVE)  # the first so many rows of each split; None: all


@dataclass(frozen=True)
class CellSection:
    """One row of the matrix.

    `model`: policy, reference, previous, policy@K, human; a hub name, a folder or a GGUF file (ends in .gguf); or
    openai:NAME, the model of that name on the OpenAI-compatible server at `base_url`.
    """

    name: str = option("", NAMED)  # any, unique in the matrix
    model: str = option("policy", NAMED)  # see above
    draws: int = option(1, NOT_NEGATIVE)  # answers a prompt in the first iteration with this cell; 0: the cell is off
    scale: float | None = option(None, POSITIVE)  # billions of parameters; None: the policy's
    family: str | None = option(None, NAMED)  # of another model; its scale counts only if this is model.family
    prior: float | None = option(None, LOG_ODDS)  # log-odds; None: from scale and stage
    temperature: float = option(1.0, TEMPERATURE)  # divides the logits; 0: always the likeliest token
    # Sample from the likeliest tokens that make up this share of the probability; 1: all.
    top_p: float = option(1.0, (lambda x: 0 < x <= 1, "must be above 0 and at most 1"))
    top_k: int = option(0, NOT_NEGATIVE)  # sample from so many of the likeliest tokens; 0: all
    system_prompt: str | None = option(None)  # put before the prompt's messages; None: nothing is added
    # Leaves out tokens less likely than this share of the likeliest one; 0: none.
    min_p: float = option(0.0, (lambda x: 0 <= x < 1, "must be at least 0 and below 1"))
    max_new_tokens: int | None = option(None, POSITIVE)  # None: sample.max_new_tokens
    # Texts that end an answer and are no part of it; for models without an end-of-turn token of their own.
    stop: tuple[str, ...] = option((), (all, "must hold no empty text"))
    # Plain text around {prompt} in place of a chat template, for base models: "User: {prompt}\nAssistant:".
    prompt_format: str | None = option(None, (lambda x: "{prompt}" in x, "must hold {prompt}, the place of the prompt"))
    base_url: str | None = option(None)  # openai:NAME only: the server's address, such as http://localhost:8000/v1
    api_key_env: str | None = option(None, NAMED)  # openai:NAME only: the environment variable that holds the key


@dataclass(frozen=True)
class MatrixSection:
    # Who answers each prompt, and how. Given in a config file, the list replaces this one as a whole. A short form for
    # many cells is matrix.grid, {models: [...], decodings: [...]}: see grid.py.
    cells: tuple[CellSection, ...] = option(
        (
            CellSection(name="reference-0.7", model="reference", temperature=0.7, top_p=0.95),
            CellSection(name="reference-1.0", model="reference", temperature=1.0, top_p=0.95),
            CellSection(name="policy-0.7", model="policy", temperature=0.7, top_p=0.95),
            CellSection(name="policy-1.0", model="policy", temperature=1.0, top_p=0.95),
            CellSection(name="previous-0.7", model="previous", temperature=0.7, top_p=0.95),
            CellSection(name="human", model="human"),
        )
    )
    refresh: bool = option(True)  # False: the start model answers for policy, reference and earlier stages alike
    min_draws: int = option(1, NOT_NEGATIVE)  # no cell's draws a prompt fall below this when budgets move
    human_prior: float = option(2.0, LOG_ODDS)  # log-odds of a human answer over the start model's
    stage_prior: float = option(0.5, LOG_ODDS_STEP)  # log-odds of a later stage over the one before
    scale_prior: float = option(0.5, LOG_ODDS_STEP)  # log-odds for each doubling of size within a family
    # Let the scale of cells of other families make a prior too, though sizes say little across families.
    compare_families: bool = option(False)


@dataclass(frozen=True)
class SampleSection:
    # Size of the mini-batch of prompts; every cell answers each of them.
    prompts_per_iteration: int = option(64, POSITIVE)
    batch_size: int = option(32, POSITIVE)  # answers computed together
    max_new_tokens: int = option(256, POSITIVE)  # tokens from which an answer is cut off
    # What computes the answers of models in this process: transformers, or vllm (pip install 'tso-align[vllm]').
    backend: str = option("transformers", one_of("transformers", "vllm"))
    dtype: str = option("auto", one_of("auto", "float32", "bfloat16"))  # auto: bfloat16 where the device has it


@dataclass(frozen=True)
class ServerSection:
    """How the servers of openai:NAME cells are asked. Nothing here changes what they are asked for."""

    # Requests under way at once, to all servers together; no more than sample.batch_size can be.
    concurrency: int = option(8, (lambda x: 1 <= x <= 1024, "must be between 1 and 1024"))
    timeout: float = option(120.0, POSITIVE)  # seconds that one attempt may take from its beginning to its last byte
    retries: int = option(6, NOT_NEGATIVE)  # further attempts after 429, 5xx, a broken connection or a broken answer


@dataclass(frozen=True)
class PairSection:
    # Who labels a pair first: the prior, the policy's implicit reward, or both where they agree. The policy has a reward
    # once it was trained; until then the prior labels.
    label: str = option("prior", one_of("prior", "implicit", "agreement"))
    max_pairs: int = option(4, POSITIVE)  # K, pairs a prompt
    max_uses: int = option(3, POSITIVE)  # m, pairs that a response is in
    max_kept: int | None = option(None, POSITIVE)  # an iteration trains on at most so many, the surest ones; None: all
    # Control of length: match prefers pairs of like length, cap leaves out those beyond length_ratio.
    length: str = option("none", one_of("none", "match", "cap"))
    # cap: the longer side has at most so many times the tokens of the shorter.
    length_ratio: float = option(2.0, (lambda x: 1 <= x < math.inf, "must be at least 1, and finite"))
    ngram: int = option(3, POSITIVE)  # n of the n-grams, in tokens, that similarity and repetition count
    near_threshold: float = option(0.8, SHARE)  # Jaccard from which two texts count as the same
    max_similarity: float = option(0.7, SHARE)  # sides more alike than this make no pair
    max_repetition: float = option(0.5, SHARE)  # share of repeated n-grams from which an answer is looping
    drop_cutoff: bool = option(False)  # drop answers that hit the length limit
    threads: int | None = option(None, THREADS)  # of the Rust tools; None: the cores there are


@dataclass(frozen=True)
class JudgeSection:
    """A model that compares the two sides of a pair, in both orders."""

    # policy (as it stands), previous, reference, start; a hub name, a folder or a GGUF file; or openai:NAME, on the server
    # at base_url. None: no judge.
    model: str | None = option(None, NAMED)
    base_url: str | None = option(None)  # openai:NAME only: the server's address, as in a cell
    api_key_env: str | None = option(None, NAMED)  # openai:NAME only: the environment variable that holds the key
    votes: int = option(1, ODD)  # draws in each order, whose majority counts; 3 or more need a temperature
    temperature: float = option(0.0, TEMPERATURE)  # of the judge's draws, as in a cell
    max_new_tokens: int = option(160, POSITIVE)  # of a reply; one that is cut off can seldom be read
    retries: int = option(2, NOT_NEGATIVE)  # further calls where a reply could not be read, before it counts as failed
    batch_size: int = option(16, POSITIVE)  # calls computed together, and durable together; a server's one by one
    # Of an iteration's pairs, judge only this share, or this number where it is above 1: those whose labels are most
    # likely wrong. None: all.
    budget: float | None = option(None, BUDGET)
    rubric: str | None = option(None, NAMED)  # text file that says what makes an answer better; None: the built-in one


@dataclass(frozen=True)
class CorrectSection:
    rule: str | None = option(None)  # package.module:function(prompt, response) -> score in 0..1
    margin: float = option(0.1, NOT_NEGATIVE)  # scores closer than this are a tie
    bad_below: float = option(0.2, SHARE)  # both below: both bad
    judge: JudgeSection = field(default_factory=JudgeSection)  # an AI judge; outranks the rule
    recorded: str | None = option(None)  # JSONL of corrections by pair id
    wait_for_people: bool = option(False)  # stop before the corrections of an iteration until people have judged a pair
    # A pair called a tie leaves, or stays with weight tie_weight.
    on_tie: str = option("drop", one_of("drop", "downweight"))
    tie_weight: float = option(0.25, SHARE)  # weight of such a pair in the loss, where 1 is the weight of the others
    # A rule or judge that contradicts a pair's label turns it round, or the pair leaves: fewer labels, and surer ones,
    # since each is then one that two sources agree on. People's verdicts always turn it.
    on_flip: str = option("turn", one_of("turn", "drop"))
    # People without a majority for one verdict: the pair leaves, or keeps the label they saw with disagreement_weight.
    on_disagreement: str = option("drop", one_of("drop", "weight"))
    disagreement_weight: float = option(0.25, SHARE)  # weight of such a pair in the loss, as tie_weight
    # Estimate each label's chance to be wrong from how often judges and people agree, and give it to the loss.
    estimate_noise: bool = option(True)
    strength_prior_weight: float = option(4.0, POSITIVE)  # comparisons that the configured strength counts for


@dataclass(frozen=True)
class TrainingSection:
    # full: all weights; lora: adapters on all linear layers, merged afterwards.
    method: str = option("full", one_of("full", "lora"))
    learning_rate: float = option(1e-6, POSITIVE)  # at its highest; AdamW
    num_train_epochs: float = option(1.0, POSITIVE)  # passes over the iteration's pairs
    per_device_train_batch_size: int = option(4, POSITIVE)  # pairs computed together
    gradient_accumulation_steps: int = option(1, POSITIVE)  # batches whose gradients make one optimiser step
    beta: float = option(0.1, POSITIVE)  # a reward is beta times the log-ratio of policy to reference, in nats
    chosen_clip: float = option(math.inf, BOUND)  # C_w: a chosen reward above it is pushed no further; reward units
    rejected_clip: float = option(math.inf, BOUND)  # C_l: a rejected reward below -C_l is pushed no further
    # The other end of either side: a pair that has gone so far the wrong way is given up.
    chosen_floor: float = option(-math.inf, (lambda x: x <= 0, "must not be positive; -inf is no bound"))
    rejected_ceiling: float = option(math.inf, BOUND)  # reward units, as the other bounds
    # Chance that a label is wrong, at least; pairs whose noise was estimated (correct.estimate_noise) may have more.
    label_smoothing: float = option(0.0, (lambda x: 0 <= x < 0.5, "must be at least 0 and below 0.5"))
    # Adds so many times the chosen answer's mean negative log-prob, in nats a token.
    sft_weight: float = option(0.0, NOT_NEGATIVE)
    average_logps: bool = option(False)  # rewards from the mean log-prob a token instead of the sum
    max_length: int = option(1024, POSITIVE)  # tokens of prompt and answer together; longer answers are cut
    lr_scheduler_type: str = option("linear", NAMED)  # transformers' name: linear, cosine, constant, ...
    # Share of the steps in which the learning rate rises from 0.
    warmup_ratio: float = option(0.0, (lambda x: 0 <= x < 1, "must be at least 0 and below 1"))
    weight_decay: float = option(0.0, NOT_NEGATIVE)  # AdamW's
    max_grad_norm: float = option(1.0, NOT_NEGATIVE)  # longer gradients are scaled to this norm; 0: never
    bf16: bool = option(False)  # bfloat16 products (autocast); the weights keep model.dtype
    # Less memory, more time: activations are computed again for the gradient.
    gradient_checkpointing: bool = option(False)
    # The tracker under its name in transformers: tensorboard, wandb, ...; none: metrics.jsonl alone.
    report_to: str = option("none", NAMED)
    save_steps: int = option(500, NOT_NEGATIVE)  # optimiser steps between resume points within an iteration; 0: none
    lora_r: int = option(16, POSITIVE)  # rank of the adapters
    lora_alpha: float = option(32.0, POSITIVE)  # adapters are scaled by lora_alpha / lora_r


@dataclass(frozen=True)
class UpdateSection:
    # hard: the new policy; soft: mixed with it by alpha; none: stays the start model.
    reference: str = option("hard", one_of("hard", "soft", "none"))
    alpha: float = option(0.6, SHARE)  # soft: share of the policy in the new reference
    retired_weight: float = option(0.25, SHARE)  # sampling weight of prompts whose pairs are all retired
    budgets: bool = option(True)  # move draws toward cells whose responses end in kept pairs; their total stays


@dataclass(frozen=True)
class EvaluateSection:
    draws: int = option(2, NOT_NEGATIVE)  # answers a held-out prompt; 0: no evaluation
    temperature: float = option(0.7, TEMPERATURE)  # of held-out answers, as in a cell
    # Of held-out answers, as in a cell.
    top_p: float = option(0.95, (lambda x: 0 < x <= 1, "must be above 0 and at most 1"))
    control: bool = option(False)  # also train on as many answers of the start model, with no update of the reference
    bootstrap: int = option(2000, POSITIVE)  # resamples of the prompts for the win rate's interval


@dataclass(frozen=True)
class Config:
    """All options of a run."""

    run: RunSection = field(default_factory=RunSection)
    model: ModelSection = field(default_factory=ModelSection)
    data: DataSection = field(default_factory=DataSection)
    matrix: MatrixSection = field(default_factory=MatrixSection)
    sample: SampleSection = field(default_factory=SampleSection)
    server: ServerSection = field(default_factory=ServerSection)
    pair: PairSection = field(default_factory=PairSection)
    correct: CorrectSection = field(default_factory=CorrectSection)
    training: TrainingSection = field(default_factory=TrainingSection)
    update: UpdateSection = field(default_factory=UpdateSection)
    evaluate: EvaluateSection = field(default_factory=EvaluateSection)
