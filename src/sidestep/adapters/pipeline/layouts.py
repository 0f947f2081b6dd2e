"""How each pipeline class of diffusers asks its network for the two predictions, and joins them.

A class is here if the conformance suite (tests/contract/test_pipelines.py) runs it, or if its loop
is that of one that it runs. Everything else is refused with a sentence: a wrong order of the two
predictions would silently be another method.
"""

from dataclasses import dataclass, replace
from typing import Any

from sidestep.errors import SidestepError


@dataclass(frozen=True)
class Layout:
    """The structure of one pipeline class.

    `calls`: "batched" = one call with the rows of both predictions; "separate" = two calls, the
    conditional one first. `cond_first` is the order of a batched call. `skip`: rows that a rule
    does not need may be left out. `scale` is the argument that holds the pipeline's scale s and
    `shift` what to add to it: a pipeline that computes `cond + s (cond - uncond)` guides at s + 1.
    `copies`: the pipeline copies the first answer before it makes the second call. `perturbed`: a
    third group of rows, perturbed attention. `edm`: sigmas are EDM's although the scheduler is a
    flow's.
    """

    calls: str = "batched"
    cond_first: bool = False
    skip: bool = False
    scale: str = "guidance_scale"
    shift: float = 0.0
    copies: bool = False
    perturbed: bool = False
    edm: bool = False

    def __post_init__(self) -> None:
        """Refuse a structure that is not known."""
        if self.calls not in ("batched", "separate"):
            raise ValueError(f"calls is {self.calls!r}; it must be 'batched' or 'separate'")


_BATCHED = Layout(skip=True)
_COND_FIRST = Layout(cond_first=True, skip=True)
_SEPARATE = Layout("separate", skip=True)
_TRUE_CFG = replace(_SEPARATE, scale="true_cfg_scale")
_PERTURBED = Layout(perturbed=True)

# The suite runs these.
CHECKED = {
    "StableDiffusionPipeline": _BATCHED,
    "StableDiffusionImg2ImgPipeline": _BATCHED,
    "StableDiffusionInpaintPipeline": _BATCHED,
    "StableDiffusionControlNetPipeline": _BATCHED,
    "StableDiffusionXLPipeline": _BATCHED,
    "StableDiffusionXLImg2ImgPipeline": _BATCHED,
    "StableDiffusion3Pipeline": _BATCHED,
    "PixArtSigmaPipeline": _BATCHED,
    "SanaPipeline": _BATCHED,
    "HunyuanDiTPipeline": _BATCHED,
    "AnimateDiffPipeline": _BATCHED,
    "AudioLDM2Pipeline": _BATCHED,
    "LTXPipeline": _BATCHED,
    "CogVideoXPipeline": _BATCHED,
    "LuminaPipeline": _COND_FIRST,
    "DiTPipeline": _COND_FIRST,
    "ZImagePipeline": replace(_COND_FIRST, shift=1.0),
    "WanPipeline": _SEPARATE,
    "ChromaPipeline": _SEPARATE,
    "CogView4Pipeline": _SEPARATE,
    "Lumina2Pipeline": _SEPARATE,
    "FluxPipeline": _TRUE_CFG,
    "QwenImagePipeline": _TRUE_CFG,
    "HunyuanVideoPipeline": _TRUE_CFG,
    "Cosmos2TextToImagePipeline": replace(_SEPARATE, shift=1.0, copies=True, edm=True),
}

# The loop is that of a class above, read in the source and not run by the suite: no rows are left
# out, and guide() says so.
SAME_LOOP = {
    "StableDiffusionDepth2ImgPipeline": "StableDiffusionImg2ImgPipeline",
    "StableDiffusionUpscalePipeline": "StableDiffusionPipeline",
    "StableDiffusionControlNetImg2ImgPipeline": "StableDiffusionControlNetPipeline",
    "StableDiffusionControlNetInpaintPipeline": "StableDiffusionControlNetPipeline",
    "StableDiffusionXLInpaintPipeline": "StableDiffusionXLPipeline",
    "StableDiffusionXLControlNetPipeline": "StableDiffusionControlNetPipeline",
    "StableDiffusionXLControlNetImg2ImgPipeline": "StableDiffusionControlNetPipeline",
    "StableDiffusionXLControlNetInpaintPipeline": "StableDiffusionControlNetPipeline",
    "StableDiffusion3Img2ImgPipeline": "StableDiffusion3Pipeline",
    "StableDiffusion3InpaintPipeline": "StableDiffusion3Pipeline",
    "StableDiffusion3ControlNetPipeline": "StableDiffusion3Pipeline",
    "KolorsPipeline": "StableDiffusionXLPipeline",
    "KolorsImg2ImgPipeline": "StableDiffusionXLImg2ImgPipeline",
    "PixArtAlphaPipeline": "PixArtSigmaPipeline",
    "AuraFlowPipeline": "StableDiffusion3Pipeline",
    "LattePipeline": "PixArtSigmaPipeline",
    "AnimateDiffVideoToVideoPipeline": "AnimateDiffPipeline",
    "AnimateDiffControlNetPipeline": "AnimateDiffPipeline",
    "CogVideoXImageToVideoPipeline": "CogVideoXPipeline",
    "CogVideoXVideoToVideoPipeline": "CogVideoXPipeline",
    "MochiPipeline": "LTXPipeline",
    "ZImageImg2ImgPipeline": "ZImagePipeline",
    "ZImageInpaintPipeline": "ZImagePipeline",
    "WanImageToVideoPipeline": "WanPipeline",
    "WanVideoToVideoPipeline": "WanPipeline",
    "SkyReelsV2Pipeline": "WanPipeline",
    "ChromaImg2ImgPipeline": "ChromaPipeline",
    "ChromaInpaintPipeline": "ChromaPipeline",
    "FluxImg2ImgPipeline": "FluxPipeline",
    "FluxInpaintPipeline": "FluxPipeline",
    "FluxKontextPipeline": "FluxPipeline",
    "QwenImageImg2ImgPipeline": "QwenImagePipeline",
    "QwenImageInpaintPipeline": "QwenImagePipeline",
    "QwenImageEditPipeline": "QwenImagePipeline",
}

# Perturbed attention: a third group of rows, and attention that counts on all of them being there.
PERTURBED = (
    "StableDiffusionPAGPipeline",
    "StableDiffusionPAGImg2ImgPipeline",
    "StableDiffusionXLPAGPipeline",
    "StableDiffusionXLPAGImg2ImgPipeline",
    "StableDiffusion3PAGPipeline",
    "PixArtSigmaPAGPipeline",
    "SanaPAGPipeline",
)

_NO_UNCOND = (
    "it makes no unconditional prediction (its guidance is distilled into the network or it has "
    "none)",
    "use the undistilled model of the family, or a mitigation that changes the prompt",
)
_GUIDER = ("it owns a guider component", "put the rule there: pipe.guider = sidestep.Guider(rule)")
_OWN_LOOP = "write the loop yourself and use the rule in it (docs/own-loop.md)"
_FRAMES = ("its frames have noise levels of their own within one step", _OWN_LOOP)
_THREE = ("it weighs three predictions (text, image and neither), not two", _OWN_LOOP)
_SEVERAL = ("it calls its network several times a step on parts of the picture", _OWN_LOOP)
_TWO_OUTPUTS = ("its network answers with two tensors, or in groups that are not two", _OWN_LOOP)

REFUSED = {
    "LatentConsistencyModelPipeline": _NO_UNCOND,
    "LatentConsistencyModelImg2ImgPipeline": _NO_UNCOND,
    "Flux2Pipeline": _NO_UNCOND,
    "FluxFillPipeline": _NO_UNCOND,
    "FluxControlPipeline": _NO_UNCOND,
    "FluxControlImg2ImgPipeline": _NO_UNCOND,
    "FluxControlInpaintPipeline": _NO_UNCOND,
    "SanaSprintPipeline": _NO_UNCOND,
    "SanaSprintImg2ImgPipeline": _NO_UNCOND,
    "DDPMPipeline": _NO_UNCOND,
    "DDIMPipeline": _NO_UNCOND,
    "HunyuanImagePipeline": _GUIDER,
    "HunyuanImageRefinerPipeline": _GUIDER,
    "HunyuanVideo15Pipeline": _GUIDER,
    "HunyuanVideo15ImageToVideoPipeline": _GUIDER,
    "MotifVideoPipeline": _GUIDER,
    "MotifVideoImage2VideoPipeline": _GUIDER,
    "SkyReelsV2DiffusionForcingPipeline": _FRAMES,
    "SkyReelsV2DiffusionForcingImageToVideoPipeline": _FRAMES,
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline": _FRAMES,
    "HunyuanVideoFramepackPipeline": _FRAMES,
    "LTXConditionPipeline": _FRAMES,
    "LTXImageToVideoPipeline": _FRAMES,
    "StableDiffusionInstructPix2PixPipeline": _THREE,
    "StableDiffusionXLInstructPix2PixPipeline": _THREE,
    "OmniGenPipeline": _THREE,
    "StableDiffusionPanoramaPipeline": _SEVERAL,
    "LEditsPPPipelineStableDiffusion": _SEVERAL,
    "LEditsPPPipelineStableDiffusionXL": _SEVERAL,
    "LTX2Pipeline": _TWO_OUTPUTS,
    "LTX2ConditionPipeline": _TWO_OUTPUTS,
    "LTX2ImageToVideoPipeline": _TWO_OUTPUTS,
    "Cosmos3OmniPipeline": _TWO_OUTPUTS,
    "OnnxStableDiffusionPipeline": ("its network is not a torch module", _OWN_LOOP),
    "OnnxStableDiffusionImg2ImgPipeline": ("its network is not a torch module", _OWN_LOOP),
    "OnnxStableDiffusionInpaintPipeline": ("its network is not a torch module", _OWN_LOOP),
}


def layout_of(pipe: Any) -> tuple[Layout, str | None]:
    """The layout of a pipeline's class, and a sentence to warn with if the suite does not run it.

    A subclass has the layout of the class it comes from. Raises SidestepError for a class that
    cannot be guided, and for one that is not known.
    """
    for kind in type(pipe).__mro__:
        name = kind.__name__
        if name in REFUSED:
            reason, move = REFUSED[name]
            raise SidestepError(f"{type(pipe).__name__} cannot be guided: {reason}; {move}")
        if name in CHECKED:
            return CHECKED[name], None
        if name in PERTURBED:
            return _PERTURBED, None
        if name in SAME_LOOP:
            base = SAME_LOOP[name]
            return replace(CHECKED[base], skip=False), (
                f"{name} has the loop of {base} but is not run by the conformance suite; every "
                "row is computed. Compare some pictures before you rely on it"
            )
    raise SidestepError(
        f"{type(pipe).__name__} is not a pipeline that sidestep.guide knows, and a wrong guess of "
        "how it joins its two predictions would be another method. If you know it, say so: "
        "sidestep.guide(pipe, rule, layout=Layout(...)) with Layout from sidestep.adapters.pipeline"
    )
