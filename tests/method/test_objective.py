from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from denoised import denoising, opened, seeded, shared

from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.cond.none import NoCond
from portraitlab.method.fusion.global_ import GlobalFusion
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.net.none import NoNet
from portraitlab.method.objective.base import Denoising
from portraitlab.method.objective.identity import IdentityLoss
from portraitlab.method.objective.lightning import LightningLoss
from portraitlab.method.objective.masked import MaskedNoiseLoss
from portraitlab.method.objective.noise import NoiseLoss
from portraitlab.method.objective.weighted import Objective
from portraitlab.method.transform.clone_faces import CloneFaces


@pytest.fixture
def model(tiny_backbone) -> PortraitModel:
    backbone = tiny_backbone()
    fusion = GlobalFusion(10, 12, backbone.text_dim)
    return PortraitModel(backbone, fusion, KeypointCond(), HiFiNet(backbone, True, True))


@pytest.fixture
def identity_loss(tiny_recogniser, tiny_regressor):
    def build(**settings) -> IdentityLoss:
        settings = {"threshold": 0.0, "regressor": tiny_regressor(), **settings}
        return IdentityLoss(tiny_recogniser(), **settings)

    return build


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_noise_loss_is_the_mean_square_of_the_error(
    tiny_backbone, tiny_batch, prediction_type
) -> None:
    backbone, batch = tiny_backbone(prediction_type=prediction_type), tiny_batch()
    model = PortraitModel(
        backbone, GlobalFusion(10, 12, 16), KeypointCond(), HiFiNet(backbone, True, True)
    )
    exact = denoising(model, batch)
    assert NoiseLoss()(exact) == 0
    off = replace(exact, prediction=exact.prediction + 0.5)
    assert NoiseLoss()(off).item() == pytest.approx(0.25, rel=1e-4)


def test_the_background_has_its_weight(tiny_backbone, tiny_batch) -> None:
    backbone, batch = tiny_backbone(), tiny_batch()
    model = PortraitModel(
        backbone, GlobalFusion(10, 12, 16), KeypointCond(), HiFiNet(backbone, True, True)
    )
    left = torch.zeros_like(batch.person)
    left[..., : left.shape[-1] // 2] = 1
    exact = denoising(model, replace(batch, person=left))
    beside = replace(exact, prediction=exact.prediction + (1 - left))
    assert NoiseLoss(background_weight=0)(beside) == 0
    assert NoiseLoss(background_weight=1)(beside).item() == pytest.approx(0.5)
    assert NoiseLoss(background_weight=0.25)(beside).item() == pytest.approx(0.2)
    with pytest.raises(ValueError, match=r"noise\.background_weight=2: a number from 0 up to 1"):
        NoiseLoss(background_weight=2)


def test_identity_loss_is_one_minus_the_cosine_of_the_aligned_crops(
    model, tiny_batch, identity_loss
) -> None:
    from portraitlab.faces.alignment import align

    term, images = identity_loss(), torch.randn(3, 3, 32, 32, generator=seeded())
    crops = align(images, term.regressor(images).keypoints, term.recogniser.crop_size)
    own = term.recogniser(crops)
    assert term.loss(images, own).item() == pytest.approx(0.0, abs=1e-5)
    assert term.loss(images, -own).item() == pytest.approx(2.0, abs=1e-5)


def test_identity_loss_is_gated_by_the_face_score(identity_loss) -> None:
    images = torch.randn(4, 3, 32, 32, generator=seeded())
    identity = torch.nn.functional.normalize(torch.randn(4, 128, generator=seeded(1)), dim=1)
    term = identity_loss()
    single = torch.stack([term.loss(images[i : i + 1], identity[i : i + 1]) for i in range(4)])
    scores = term.regressor(images).score
    between = scores.sort().values[1:3].mean().item()
    images.requires_grad_(True)
    loss = identity_loss(threshold=between).loss(images, identity)
    faces = scores > between
    assert faces.sum() == 2
    # A sample without a face counts 0 and gets no gradient, but stays in the mean.
    assert loss.item() == pytest.approx((single[faces].sum() / 4).item(), rel=1e-4)
    loss.backward()
    touched = images.grad.abs().sum(dim=(1, 2, 3)) > 0
    assert torch.equal(touched, faces)
    assert identity_loss(threshold=1.0).loss(images, identity) == 0


def test_identity_loss_looks_at_the_decoded_estimate(model, tiny_batch, identity_loss) -> None:
    batch, term = tiny_batch(), identity_loss()
    state = denoising(model, batch, timesteps=(10, 500, 900))
    expected = term.loss(model.backbone.decode(batch.latents), batch.identity)
    loss = term(state)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    loss.backward()
    assert (state.prediction.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_identity_loss_keeps_to_its_limits(model, tiny_batch, identity_loss) -> None:
    batch = tiny_batch()

    def touched(progress=1.0, step=0, **settings) -> list[bool] | None:
        state = denoising(model, batch, progress=progress, step=step)
        loss = identity_loss(**settings)(state)
        if loss is None:
            return None
        loss.backward()
        return (state.prediction.grad.abs().sum(dim=(1, 2, 3)) > 0).tolist()

    assert touched() == [True, True, True]
    assert touched(samples=2) == [True, True, False]
    assert touched(timestep_min=500) == [False, True, True]
    assert touched(timestep_min=20, timestep_max=500) == [False, True, False]
    assert touched(timestep_min=20, timestep_max=30) is None
    assert touched(start_fraction=0.5, progress=0.49) is None
    assert touched(start_fraction=0.5, progress=0.5) == [True, True, True]
    assert touched(every=3, step=4) is None
    assert touched(every=3, step=6) == [True, True, True]


def test_a_picture_of_two_copies_of_a_face_is_not_compared(
    model, tiny_batch, identity_loss, lightning
) -> None:
    cloned = CloneFaces().apply(model.with_drawing(tiny_batch()), step=0)
    for term in (identity_loss(), lightning()):
        assert term(denoising(model, cloned)) is None
        assert term(denoising(model, tiny_batch())) is not None


def test_its_networks_stay_in_evaluation_mode(identity_loss) -> None:
    objective = Objective({"identity": identity_loss()}).train()
    assert objective.training
    assert not any(module.training for module in objective.terms["identity"].modules())
    assert not any(parameter.requires_grad for parameter in objective.parameters())


@pytest.mark.parametrize(
    "settings", [{"every": 0}, {"samples": 0}, {"timestep_min": 9, "timestep_max": 8}]
)
def test_limits_that_leave_nothing_are_refused(identity_loss, settings) -> None:
    with pytest.raises(ValueError, match=r"never acts with .*choose an objective without it"):
        identity_loss(**settings)


def test_the_sum_is_weighted_and_its_gradient_reaches_the_net(
    model, tiny_batch, identity_loss
) -> None:
    objective = Objective({"noise": NoiseLoss(), "identity": identity_loss(weight=0.1)})
    losses = objective(model, tiny_batch(), seeded(), progress=0.0)
    assert set(losses) == {"loss", "noise", "identity"}
    torch.testing.assert_close(losses["loss"], losses["noise"] + 0.1 * losses["identity"])
    losses["identity"].backward()
    # At step 0 everything behind the zero convolutions is still shut off.
    assert model.net.controlnet.controlnet_mid_block.weight.grad.abs().max() > 0


def test_the_generator_alone_decides_the_numbers(model, tiny_batch) -> None:
    objective, batch = Objective({"noise": NoiseLoss()}), tiny_batch()
    torch.manual_seed(0)
    first = objective(model, batch, seeded(3), progress=0.0)["loss"]
    torch.manual_seed(1)
    assert torch.equal(objective(model, batch, seeded(3), progress=0.0)["loss"], first)
    assert not torch.equal(objective(model, batch, seeded(4), progress=0.0)["loss"], first)


@pytest.mark.parametrize("power", [1.0, 0.2])
def test_timesteps_follow_the_power_of_a_uniform(tiny_backbone, tiny_batch, power) -> None:
    backbone, seen = tiny_backbone(), []
    model = PortraitModel(backbone, NoFusion(10, 12, 16), NoCond(), NoNet(backbone, False, False))

    class Watch(NoiseLoss):
        def forward(self, denoising: Denoising) -> torch.Tensor:
            seen.append(denoising.timesteps)
            return super().forward(denoising)

    objective = Objective({"noise": Watch()}, power)
    objective(model, tiny_batch(batch=2000, refs=1, size=2), seeded(), progress=0.0)
    timesteps = seen[0].float()
    assert timesteps.min() >= 0
    assert timesteps.max() <= 999
    # The mean of u^power is 1 / (1 + power).
    assert timesteps.mean().item() == pytest.approx(1000 / (1 + power), rel=0.03)


def test_an_objective_without_terms_or_with_a_bad_power_is_refused() -> None:
    with pytest.raises(ValueError, match="name one or more"):
        Objective({})
    with pytest.raises(ValueError, match="none of them 'loss'"):
        Objective({"loss": NoiseLoss()})
    with pytest.raises(ValueError, match=r"objective\.timestep_power=0: a number above 0"):
        Objective({"noise": NoiseLoss()}, timestep_power=0)


def test_a_mask_of_ones_is_the_plain_loss_and_one_of_zeros_is_none(model, tiny_batch) -> None:
    batch = tiny_batch()
    exact = denoising(model, batch)
    off = replace(exact, prediction=exact.prediction + torch.randn_like(exact.prediction))

    def loss(mask: torch.Tensor) -> float:
        return MaskedNoiseLoss()(replace(off, batch=replace(batch, face_mask=mask))).item()

    ones = torch.ones(3, *batch.latents.shape[-2:])
    assert loss(ones) == pytest.approx(NoiseLoss()(off).item(), rel=1e-5)
    assert loss(torch.zeros_like(ones)) == 0


def test_the_masked_loss_agrees_with_eq_3_written_out_slowly(model, tiny_batch) -> None:
    batch = tiny_batch()
    mask = torch.rand(3, *batch.latents.shape[-2:], generator=seeded(1))
    batch = replace(batch, face_mask=mask)
    exact = denoising(model, batch)
    off = replace(exact, prediction=torch.randn(exact.noise.shape, generator=seeded(2)))
    target = model.backbone.training_target(batch.latents, exact.noise, exact.timesteps)
    errors = [
        (m * p - m * t).square()
        for m, prediction, true in zip(mask, off.prediction, target, strict=True)
        for p, t in zip(prediction, true, strict=True)  # one channel
    ]
    slow = torch.stack(errors).mean()
    torch.testing.assert_close(MaskedNoiseLoss()(off), slow)


@pytest.fixture
def lightning(tiny_backbone, tiny_recogniser, tiny_regressor):
    def build(**settings) -> LightningLoss:
        settings = {"threshold": 0.0, "steps": 3, **settings}
        student = tiny_backbone(seed=5).unet
        return LightningLoss(tiny_recogniser(), tiny_regressor(), student, **settings)

    return build


def test_the_lightning_loss_is_of_the_students_images_from_pure_noise(
    model, tiny_batch, lightning
) -> None:
    term, batch = lightning(grad_last=2), tiny_batch()
    given = denoising(opened(model), batch)
    loss = term(given)
    # The paper's eq. 4, step by step: noise, the student's DDIM steps, decoding, comparing.
    backbone, student = model.backbone, term.student
    alphas = backbone.scheduler.alphas_cumprod
    latents = torch.randn(batch.latents.shape, generator=seeded())
    with torch.no_grad():
        condition = model.condition(batch)
        for level, following in ((999, 666), (666, 332), (332, -1)):
            timesteps = torch.full((3,), level)
            injection = model.net(latents, timesteps, condition)
            velocity = student(
                latents,
                timesteps,
                batch.text.words,
                down_block_additional_residuals=injection.down,
                mid_block_additional_residual=injection.mid,
            ).sample
            alpha = alphas[level]
            clean = alpha.sqrt() * latents - (1 - alpha).sqrt() * velocity
            noise = alpha.sqrt() * velocity + (1 - alpha).sqrt() * latents
            alpha = alphas[following] if following >= 0 else torch.tensor(1.0)
            latents = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        slow = term.loss(backbone.decode(latents), batch.identity)
    torch.testing.assert_close(loss.detach(), slow, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("grad_last", [1, 2, 3])
def test_the_lightning_gradient_reaches_fusion_and_net_and_nothing_frozen(
    model, tiny_batch, lightning, grad_last
) -> None:
    term = lightning(grad_last=grad_last)
    term(denoising(opened(model), tiny_batch())).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name
    assert all(parameter.grad is None for parameter in term.parameters())


def test_each_kept_step_adds_its_gradient(model, tiny_batch, lightning) -> None:
    gradients = []
    for grad_last in (1, 2, 3):
        lightning(grad_last=grad_last)(denoising(opened(model), tiny_batch())).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.trained_parameters()]))
        model.zero_grad(set_to_none=True)
    assert not torch.allclose(gradients[0], gradients[1], rtol=1e-2)
    assert not torch.allclose(gradients[1], gradients[2], rtol=1e-2)


def test_the_student_runs_with_the_nets_attention(tiny_backbone, tiny_batch, lightning) -> None:
    from portraitlab.method.net.adapter import Adapter

    backbone = tiny_backbone()
    fusion = GlobalFusion(10, 12, backbone.text_dim)
    model = PortraitModel(backbone, fusion, NoCond(), Adapter(backbone, False, True))
    lightning()(denoising(model, tiny_batch())).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_the_student_reads_the_maps_of_its_own_samples(
    tiny_backbone, tiny_batch, lightning
) -> None:
    from portraitlab.method.net.flashface import FlashFace

    backbone = tiny_backbone()
    net = FlashFace(backbone, False, False)
    for parameter in net.starting_at_zero():
        torch.nn.init.normal_(parameter, std=0.2, generator=seeded(3))
    model = PortraitModel(backbone, NoFusion(10, 12, 16), NoCond(), net)
    batch = tiny_batch(latents=True)
    few = lightning(samples=2)(denoising(model, batch))
    alone = lightning()(denoising(model, batch[:2], timesteps=(10, 500)))
    torch.testing.assert_close(few, alone, atol=1e-5, rtol=1e-4)


def test_the_lightning_loss_is_the_same_in_one_process_as_in_two(
    model, tiny_batch, lightning
) -> None:
    batch, term = tiny_batch(batch=4), lightning(samples=3)
    whole = denoising(opened(model), batch, timesteps=(10, 500, 700, 990))
    parts = [term(part) for part in shared(whole, 2)]
    torch.testing.assert_close(sum(parts) / 2, term(whole), atol=1e-5, rtol=1e-4)


def test_a_lightning_loss_that_cannot_be_is_refused(
    model, tiny_batch, lightning, tiny_recogniser, tiny_regressor
) -> None:
    with pytest.raises(
        ValueError, match=r"lightning\.grad_last=4: a whole number from 1 to 3 .*student"
    ):
        lightning(grad_last=4)
    with pytest.raises(ValueError, match=r"needs a few-step student .* and student=none"):
        LightningLoss(tiny_recogniser(), tiny_regressor(), None, steps=None)
    term = lightning()
    term.student.register_to_config(cross_attention_dim=99)
    with pytest.raises(ValueError, match=r"student has cross_attention_dim=99, and the backbone's"):
        term(denoising(model, tiny_batch()))


def test_without_a_regressor_the_targets_keypoints_align_every_sample(
    model, tiny_batch, identity_loss
) -> None:
    from portraitlab.faces.alignment import face_crops

    batch = tiny_batch()
    given = denoising(model, batch)
    term = identity_loss(regressor=None)
    assert identity_loss(threshold=2.0)(given) == 0  # no face is found
    clean = model.backbone.clean_estimate(given.noisy, given.prediction, given.timesteps)
    images = model.backbone.decode(clean)
    crops = face_crops(images, batch.target_geometry.keypoints, term.recogniser)
    distance = 1 - (term.recogniser(crops) * batch.identity).sum(-1)
    torch.testing.assert_close(term(given), distance.mean())


def test_the_lightning_loss_without_a_student_draws_with_the_backbone(
    model, tiny_batch, tiny_recogniser, tiny_regressor
) -> None:
    batch = tiny_batch()
    given = denoising(opened(model), batch)
    losses = [
        LightningLoss(tiny_recogniser(), None, student, steps=3)(replace(given, generator=seeded()))
        for student in (None, deepcopy(model.backbone.unet))
    ]
    assert losses[0] == losses[1]


def test_the_masked_loss_is_the_same_in_one_process_as_in_two(model, tiny_batch) -> None:
    from portraitlab.support.ranks import Split

    batch = tiny_batch(batch=4)
    mask = torch.rand(4, *batch.latents.shape[-2:], generator=seeded(1))
    batch = replace(batch, face_mask=mask)
    exact = denoising(model, batch, timesteps=(10, 500, 700, 990))
    whole = replace(exact, prediction=torch.randn(exact.noise.shape, generator=seeded(2)))
    parts = []
    for rank in range(2):
        split = Split(rank, 2)
        own = split.own(torch.arange(4))
        mine = {name: getattr(whole, name)[own] for name in ("batch", "noise", "prediction")}
        parts.append(MaskedNoiseLoss()(replace(whole, split=split, **mine)))
    torch.testing.assert_close(sum(parts) / 2, MaskedNoiseLoss()(whole))
