"""One lazy table of everything that has a name: it feeds the command line, docs and tests.

An entry is one line of data; its code is imported when it is asked for.
"""

import difflib
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, NamedTuple

from sidestep.errors import SidestepError

Kind = Literal[
    "rule",
    "schedule",
    "sampler",
    "mitigation",
    "calibration",
    "data",
    "model",
    "similarity",
    "metric",
]
GUIDES: tuple[Kind, ...] = ("rule", "sampler", "mitigation")  # what a run can be made with
JAIN = "Jain et al., CVPR 2025, arXiv:2411.16738"
HAN = "Han et al., NeurIPS 2025, arXiv:2510.08625"
CHEN = "Chen et al., CVPR 2025, arXiv:2504.18032"
KIM = "Kim and No, CVPR 2026, arXiv:2605.02908"
ZHAO = "Zhao et al., ICML 2026, arXiv:2603.00133"
SOMEPALLI = "Somepalli et al., NeurIPS 2023, arXiv:2305.20086"


class Entry(NamedTuple):
    """A named method: where its code is, what it does in one line, where it comes from."""

    name: str
    kind: Kind
    code: str  # module:attribute
    summary: str
    source: str
    cite: str = "sidestep"  # key in citations.bib; the default is for what is of this project

    def load(self) -> Callable[..., Any]:
        """Import the code."""
        module, attribute = self.code.split(":")
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]


ENTRIES = (
    Entry(
        "constant",
        "rule",
        "sidestep.guidance.constant:Constant",
        "plain classifier-free guidance, one scale at every step",
        "Ho and Salimans, 2022",
        "ho2022",
    ),
    Entry(
        "static",
        "rule",
        "sidestep.guidance.static:Static",
        "no, conditional or opposite guidance until a fixed time, then guidance",
        JAIN,
        "jain2025",
    ),
    Entry(
        "dynamic",
        "rule",
        "sidestep.guidance.dynamic:Dynamic",
        "no, conditional or opposite guidance until the gap's first minimum, per sample",
        JAIN,
        "jain2025",
    ),
    Entry(
        "interval",
        "rule",
        "sidestep.guidance.interval:Interval",
        "guidance inside an interval of time, the conditional prediction outside it",
        "Kynkäänniemi et al., NeurIPS 2024, arXiv:2404.07724",
        "kynkaanniemi2024",
    ),
    Entry(
        "probe",
        "sampler",
        "sidestep.sampling.probe:probe_and_sample",
        "opposite guidance whose transition a first full run finds; costs two runs",
        "released script of Jain et al.",
        "jain2025",
    ),
    Entry(
        "scheduled",
        "schedule",
        "sidestep.guidance.schedules:Scheduled",
        "a scale that changes with time: linear, invlinear, cosine, sine, v, a",
        "released script of Jain et al.",
        "jain2025",
    ),
    Entry(
        "random-words",
        "mitigation",
        "sidestep.mitigations.perturbation:RandomWords",
        "insert random tokens of the vocabulary into the prompt (RTA)",
        SOMEPALLI,
        "somepalli2023",
    ),
    Entry(
        "random-numbers",
        "mitigation",
        "sidestep.mitigations.perturbation:RandomNumbers",
        "insert random integers into the prompt (RNA)",
        SOMEPALLI,
        "somepalli2023",
    ),
    Entry(
        "word-repetition",
        "mitigation",
        "sidestep.mitigations.perturbation:WordRepetition",
        "insert words of the prompt once more (CWR)",
        SOMEPALLI,
        "somepalli2023",
    ),
    Entry(
        "embedding-noise",
        "mitigation",
        "sidestep.mitigations.perturbation:EmbeddingNoise",
        "add Gaussian noise to the prompt embeddings (GNI)",
        SOMEPALLI,
        "somepalli2023",
    ),
    Entry(
        "batchwise-noise",
        "mitigation",
        "sidestep.mitigations.initial_noise:BatchwiseNoise",
        "move first noise to where the basin is left sooner, without gradients",
        HAN,
        "han2025",
    ),
    Entry(
        "per-sample-noise",
        "mitigation",
        "sidestep.mitigations.initial_noise:PerSampleNoise",
        "descend the gap over first noise, each sample until it meets a target",
        HAN,
        "han2025",
    ),
    Entry(
        "sharpness-aware",
        "mitigation",
        "sidestep.mitigations.sharpness:SharpnessAware",
        "descend the sharpness of the prompt's pull over first noise (SAIL)",
        "Jeon et al., ICML 2025, arXiv:2412.04140",
        "jeon2025",
    ),
    Entry(
        "anti-memorization",
        "mitigation",
        "sidestep.mitigations.antimemorization:AntiMemorization",
        "guide away from the nearest of one's own training pictures (AMG)",
        "Chen et al., CVPR 2024, arXiv:2404.00922",
        "chen2024",
    ),
    Entry(
        "update-norm",
        "mitigation",
        "sidestep.mitigations.update_norm:UpdateNorm",
        "experimental: hold updates inside the region of ordinary runs",
        "Huang et al., KDD 2026, arXiv:2605.22050; no official code",
        "huang2026",
    ),
    Entry(
        "update-region",
        "calibration",
        "sidestep.mitigations.update_norm:Region",
        "experimental: the norms of ordinary runs, which update-norm holds a run to",
        "Huang et al., KDD 2026, arXiv:2605.22050; no official code",
        "huang2026",
    ),
    Entry(
        "cads",
        "mitigation",
        "sidestep.mitigations.cads:CADS",
        "hide the prompt behind noise early on and let it appear (CADS)",
        "Sadat et al., ICLR 2024, arXiv:2310.17347",
        "sadat2024",
    ),
    Entry(
        "prompt-optimization",
        "mitigation",
        "sidestep.mitigations.prompt_optimization:PromptOptimization",
        "change the prompt embeddings until the gap at the first step is small",
        "Wen et al., ICLR 2024, arXiv:2407.21720",
        "wen2024",
    ),
    Entry(
        "attention-masking",
        "mitigation",
        "sidestep.mitigations.cross_attention:AttentionMasking",
        "no cross-attention to the tokens after the prompt, more to the start token",
        "Ren et al., ECCV 2024, arXiv:2403.11052",
        "ren2024",
    ),
    Entry(
        "spike-attenuation",
        "mitigation",
        "sidestep.mitigations.guard:SpikeAttenuation",
        "calm the tokens that cross-attention spikes at (CA)",
        ZHAO,
        "zhao2026",
    ),
    Entry(
        "guard",
        "mitigation",
        "sidestep.mitigations.guard:Guard",
        "follow the prediction with calmed attention, push away from the one without",
        ZHAO,
        "zhao2026",
    ),
    Entry(
        "neutral-padding",
        "mitigation",
        "sidestep.mitigations.clip_padding:NeutralPadding",
        'pad prompts with "!" instead of copies of their end token, which is zeroed',
        KIM,
        "kim2026",
    ),
    Entry(
        "padding-zeroed",
        "mitigation",
        "sidestep.mitigations.clip_padding:PaddingZeroed",
        "zero the padding next to the prompt's end token",
        KIM,
        "kim2026",
    ),
    Entry(
        "rewording",
        "mitigation",
        "sidestep.mitigations.rewording:Rewording",
        "say given prompts instead of the ones that were asked for",
        CHEN,
        "chen2025prss",
    ),
    Entry(
        "prompt-reanchoring",
        "mitigation",
        "sidestep.mitigations.reanchoring:PromptReanchoring",
        "follow a modified prompt, push away from the original one (PRSS, part PR)",
        CHEN,
        "chen2025prss",
    ),
    Entry(
        "embedded-targets",
        "data",
        "sidestep.bench.embedded:targets",
        "the embedded model's 30 memorized pictures with captions, for anti-memorization",
        "this project",
    ),
    Entry(
        "embedded-region",
        "data",
        "sidestep.bench.embedded:region",
        "norms of ordinary runs of the embedded model, for update-norm",
        "this project",
    ),
    Entry(
        "memorizer",
        "model",
        "sidestep.models.closed_form:Memorizer",
        "exact denoiser of a finite weighted set: memorizes perfectly",
        "closed form",
    ),
    Entry(
        "generalizer",
        "model",
        "sidestep.models.closed_form:Generalizer",
        "exact denoiser of a Gaussian: can never memorize",
        "closed form",
    ),
    Entry(
        "spike-and-slab",
        "model",
        "sidestep.models.closed_form:SpikeAndSlab",
        "exact denoiser of narrow targets among broad components",
        "closed form",
    ),
    Entry(
        "embedded",
        "model",
        "sidestep.models.embedded:folder",
        "a Stable Diffusion in small that memorizes 30 scenes, in diffusers' folder format",
        "trained by training/ of this repository",
    ),
    Entry(
        "pixels",
        "similarity",
        "sidestep.similarity.pixels:Pixels",
        "correlation of mean-removed pixels",
        "this project",
    ),
    Entry(
        "sscd",
        "similarity",
        "sidestep.similarity.sscd:SSCD",
        "SSCD disc_mixup copy-detection embedding, cosine",
        "Pizzi et al., CVPR 2022",
        "pizzi2022",
    ),
    Entry(
        "sscd-published",
        "similarity",
        "sidestep.similarity.sscd_published:PublishedSSCD",
        "SSCD from the authors' weights, with the preprocessing of a paper",
        "Pizzi et al., CVPR 2022",
        "pizzi2022",
    ),
    Entry(
        "wen-mean",
        "metric",
        "sidestep.similarity.aggregates:wen",
        "similarity: mean over a prompt's images, then over prompts",
        "Wen et al., ICLR 2024",
        "wen2024",
    ),
    Entry(
        "nemo-median",
        "metric",
        "sidestep.similarity.aggregates:nemo",
        "similarity: median over seeds, median and its deviation over prompts",
        "Hintersdorf et al., NeurIPS 2024",
        "hintersdorf2024",
    ),
    Entry(
        "membench-top",
        "metric",
        "sidestep.similarity.aggregates:membench",
        "similarity: closest seed, three closest, share above 0.5",
        "Hong et al., MemBench",
        "hong2024",
    ),
    Entry(
        "dcr-top1",
        "metric",
        "sidestep.similarity.aggregates:dcr",
        "similarity to the nearest training picture: mean, 95th percentile, share",
        "Somepalli et al., CVPR 2023",
        "somepalli2022",
    ),
    Entry(
        "amg-top",
        "metric",
        "sidestep.similarity.aggregates:amg",
        "similarity to the nearest training picture: highest, mean of the top 5 %",
        "Chen et al., CVPR 2024",
        "chen2024",
    ),
    Entry(
        "clip-score",
        "metric",
        "sidestep.adapters.clip:CLIPScore",
        "cosine of picture and original prompt under CLIP",
        "Radford et al., ICML 2021",
        "radford2021",
    ),
    Entry(
        "lpips",
        "metric",
        "sidestep.similarity.lpips:LPIPS",
        "perceptual distance between the seeds of a prompt: diversity",
        "Zhang et al., CVPR 2018",
        "zhang2018",
    ),
    Entry(
        "fid",
        "metric",
        "sidestep.similarity.inception:fid",
        "Fréchet distance of Inception features; for 10,000 pictures or more",
        "Heusel et al., NeurIPS 2017",
        "heusel2017",
    ),
    Entry(
        "kid",
        "metric",
        "sidestep.similarity.inception:kid",
        "kernel distance of Inception features, unbiased for few pictures",
        "Binkowski et al., ICLR 2018",
        "binkowski2018",
    ),
    Entry(
        "auc",
        "metric",
        "sidestep.similarity.detection:auc",
        "chance that a memorized prompt scores above an ordinary one",
        "Hanley and McNeil, Radiology, 1982",
    ),
    Entry(
        "tpr-at-fpr",
        "metric",
        "sidestep.similarity.detection:tpr_at_fpr",
        "memorized prompts found while at most 1 % of the others are",
        "Carlini et al., IEEE S&P 2022",
        "carlini2022",
    ),
)


def entries(*kinds: Kind) -> list[Entry]:
    """The entries of those kinds; of all without one."""
    return [e for e in ENTRIES if not kinds or e.kind in kinds]


def get(name: str, *kinds: Kind) -> Entry:
    """The entry of that name among those kinds; SidestepError names the nearest for a typo."""
    known = {e.name: e for e in entries(*kinds)}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}."
    raise SidestepError(f"there is no {kinds[0] if kinds else 'method'} named {name!r}; {hint}")
