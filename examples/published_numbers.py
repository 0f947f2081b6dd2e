"""One table of similarities, summed up as the papers do, with intervals that draw prompts.

The similarities are made up: 40 prompts with 10 seeds each, before and after a mitigation.
"""

import numpy as np

from sidestep.similarity import aggregates
from sidestep.similarity.intervals import bootstrap_interval, clopper_pearson, paired_interval

draw = np.random.default_rng(0)
level = draw.uniform(0.2, 0.95, 40)  # how strongly each prompt is memorized
before = [np.clip(draw.normal(each, 0.05, 10), -1, 1) for each in level]
after = [np.clip(draw.normal(each * 0.4, 0.1, 10), -1, 1) for each in level]

for name, prompts in (("before", before), ("after", after)):
    top = np.concatenate(prompts)
    print(name)
    print(f"  mean of means (Wen)          {aggregates.wen(prompts):.3f}")
    print("  median, deviation (NeMo)     {:.3f}, {:.3f}".format(*aggregates.nemo(prompts)))
    print(
        "  top, top 3, share (MemBench) {:.3f}, {:.3f}, {:.3f}".format(
            *aggregates.membench(prompts)
        )
    )
    print("  mean, p95, share (DCR)       {:.3f}, {:.3f}, {:.3f}".format(*aggregates.dcr(top)))
    low, high = bootstrap_interval(prompts, lambda x: float(np.percentile(x, 95)), resamples=999)
    print(f"  95th percentile, 95 % interval [{low:.3f}, {high:.3f}]")

low, high = paired_interval(after, before, resamples=999)
print(f"mean similarity changes by [{low:.3f}, {high:.3f}]")
# Prompts are independent, their seeds are not: the exact interval is for prompts.
copied = sum(float(each.max()) > 0.5 for each in after)
low, high = clopper_pearson(copied, len(after))
print(f"prompts with a copy left: {copied} of {len(after)} [{low:.2f}, {high:.2f}]")
