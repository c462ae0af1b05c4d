"""The settings that several solvers share, each described once. A solver's own settings are in its file."""

from fastmf.solvers.declare import setting, with_settings

MAX_SEED = 2**63 - 1  # kernels take it as int64
MAX_WEIGHT = 1e30  # kernels take weights as float32, and multiply them


@with_settings
class Common:
    """The settings of every solver."""

    k: int = setting("Number of factors.", default=32, low=1)
    seed: int = setting("Seed of all random numbers.", default=0, low=0, high=MAX_SEED)


@with_settings
class Biases(Common):
    """The setting of solvers that can do without biases."""

    biases: bool = setting("Give users and items a bias.", default=True)


@with_settings
class Penalties(Biases):
    """The settings of solvers with the objective of :mod:`fastmf.solvers`; they mean the same in each."""

    epochs: int = setting("Passes over all ratings.", default=12, low=1)
    reg: float = setting(
        "Weight of squared factors, per rating of a user or item (implicit: see --penalty).",
        default=0.03,
        low=0,
        high=MAX_WEIGHT,
    )
    reg0: float = setting("Weight of squared factors, per user and item.", default=8.0, low=0, high=MAX_WEIGHT)
    bias_reg: float = setting("Weight of the squared biases.", default=3.0, low=0, high=MAX_WEIGHT)


@with_settings
class Method(Common):
    """The settings of solvers that solve rows exactly or by conjugate gradients."""

    method: str = setting(
        "How rows are solved: exactly, or by a few steps of conjugate gradients (faster for k >= 64).",
        default="exact",
        choices=("exact", "cg"),
    )
    steps: int = setting("Steps of conjugate gradients in each half-sweep.", default=2, low=1)


@with_settings
class Momentum(Common):
    """The setting of alternating least squares for ratings."""

    momentum: float = setting(
        "Share of the items' last change to repeat before the users are solved.", default=0.3, low=0, high=1
    )


@with_settings
class Featuring(Common):
    """The setting of solvers that pull factors to a linear function of side features."""

    feature_reg: float = setting(
        "Weight of the squared weights of side features.", default=4.0, low=0, above=True, high=MAX_WEIGHT
    )


@with_settings
class Fading(Common):
    """The setting of solvers whose links pull harder on users with more ratings."""

    fade: float = setting(
        "Number of ratings at which links pull a user with half their force; 0 for full force.",
        default=20.0,
        low=0,
        high=MAX_WEIGHT,
    )
