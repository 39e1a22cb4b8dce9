"""The vocabulary of programs: the primitives of jaxprs, by what they do.

One table for all who read programs. A family is named for what is true of its members, so a reader
who needs a property unites the families that have it and never lists primitives. A primitive
stands in one family, but for the unions named at the end.

What older or newer versions of jax have and this one has not is marked in `OLDER`, `NEWER`, `GONE`;
a test holds every other name to the jax that is installed.
"""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Programs in programs -------------------------------------------------

# Calls that mean no more than their body: safe to replace by the body's equations.
CALLS = _names("jit pjit closed_call eval_jaxpr core_call remat remat2 checkpoint")
# Calls whose body has another derivative than its equations taken one by one: jax.nn.relu's is 0
# at 0, its body's 1/2.
CUSTOM_DERIVATIVES = _names("custom_jvp_call custom_vjp_call")
# One equation of whose body stands for many values.
LOOPS = _names("scan while")
BRANCHES = _names("cond")

# The same values ------------------------------------------------------

TAG = "name"  # of jax.ad_checkpoint.checkpoint_name
STOP = "stop_gradient"
# x, of the same type and at the same places (but for rounding).
IDENTITIES = _names(f"{TAG} copy reduce_precision optimization_barrier sharding_constraint")
CONVERSIONS = _names("convert_element_type")

# Values at other places -----------------------------------------------

# Each value of the operand once.
MOVES = _names("reshape transpose squeeze expand_dims rev")
SLICE = "slice"
PAD = "pad"
# Some values of the operand, by fixed or by computed places.
PARTS = _names(f"{SLICE} dynamic_slice split unstack gather")
# Values of the operand, more than once.
REPEATS = _names("broadcast_in_dim tile")
# Values of several operands, each once.
JOINS = _names("concatenate stack")
# Values of the first operand, some of them replaced by those of another, or surrounded by them.
INSERTS = _names(f"{PAD} dynamic_update_slice")
# Values of the operand in another order, or the first of them in it.
SORTS = _names("sort top_k")

# Sums and products ----------------------------------------------------

ADDITIONS = _names("add add_any sub")  # of two operands, value by value
SUMS = _names("reduce_sum reduce_window_sum cumsum")  # of one operand's values
MAX_POOL = "reduce_window_max"
EXTREMES = _names(  # the largest or least of one operand's values
    f"reduce_max reduce_min {MAX_POOL} reduce_window_min cummax cummin"
)
PRODUCTS = _names("reduce_prod cumprod")  # of one operand's values
FOLDS = _names("reduce_window cumlogsumexp")  # of one operand's values, in some other way
DENSE = "dot_general"
CONV = "conv_general_dilated"
LINEAR = frozenset({DENSE, CONV})  # linear in each of two operands
PRODUCT = "mul"
QUOTIENT = "div"
NEGATION = "neg"

# Value by value -------------------------------------------------------

# One of the operands' values: homogeneous of degree 1 in all of them together.
CHOICES = _names("max min select_n")
CLAMP = "clamp"
# f(x) >= 0 whatever x.
NON_NEGATIVE = _names("exp exp2 abs sqrt rsqrt square cosh")
# f(x) has the sign of x and no bound.
SIGN_KEEPING = _names("expm1 log1p sinh asinh atan cbrt floor ceil round")
# f(x) has the sign of x and lies in [-1, 1].
SATURATING = _names("tanh erf sign")
LOGISTIC = "logistic"  # in (0, 1)
ERFC = "erfc"  # in (0, 2)
WAVES = _names("sin cos")  # in [-1, 1]
POWERS = _names("pow integer_pow")
# Of no sign or bound that is known.
OTHER_FUNCTIONS = _names(
    "log log2 tan acosh atanh asin acos atan2 erf_inv rem nextafter lgamma digamma one_minus_square"
)
# To bool.
PREDICATES = _names("is_finite eq ne lt le gt ge")
LOGIC = _names("not and or xor")

# Indices --------------------------------------------------------------

INDICES = _names("iota argmax argmin")

# Unions ---------------------------------------------------------------

FUNCTIONS = frozenset().union(
    *(NON_NEGATIVE, SIGN_KEEPING, SATURATING, WAVES, POWERS, OTHER_FUNCTIONS, PREDICATES, LOGIC),
    {LOGISTIC, ERFC, CLAMP, PRODUCT, QUOTIENT, NEGATION},
    CONVERSIONS,
)
ELEMENTWISE = FUNCTIONS | ADDITIONS | CHOICES
# What goes over whole axes, over windows, or along an axis up to each place.
REDUCTIONS = _names("reduce_sum reduce_max reduce_min reduce_prod argmax argmin")
WINDOWS = _names(f"reduce_window_sum {MAX_POOL} reduce_window_min reduce_window")
CUMULATIVE = _names("cumsum cummax cummin cumprod cumlogsumexp")
# Linear with coefficients that are no parameters, or a choice of values: f(a x) = a f(x), a > 0.
HOMOGENEOUS = MOVES | PARTS | REPEATS | JOINS | INSERTS | SORTS | SUMS | EXTREMES

# Versions -------------------------------------------------------------

OLDER = _names("pjit core_call remat checkpoint expand_dims")
NEWER = _names("log2 one_minus_square")  # since jax 0.12
GONE = _names("closed_call")  # since jax 0.12, which says eval_jaxpr
