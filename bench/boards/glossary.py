"""Definitions of the headings of tables, one for each term."""

from collections.abc import Collection

TERMS = {
    "method": "Method and configuration, as in lre:tuned.",
    "coverage of": "Verdict on the coverage of intervals of one parameter. ✓ holds: the confidence "
    "interval of the gap lies inside the tolerance. ✗ fails: it lies outside. ? undetermined: "
    "neither is shown.",
    "honest length": "Mean length of intervals once their threshold is moved until 68.27 % of them "
    "cover, relative to exact ones treated likewise. Geometric mean over parameters. It is the "
    "price of a method.",
    "likelihood rank": "Possible ranks by divergence, in simultaneous comparisons at 95 % "
    "confidence.",
    "interval rank": "Possible ranks by honest length, in simultaneous comparisons at 95 % "
    "confidence.",
    "coverage": "Share of intervals that contain the true parameter. Intervals claim 68.27 %.",
    "length": "Mean length of the intervals, relative to exact's where the likelihood is known.",
    "score": "Interval score: length plus a penalty for every miss, summed over parameters, "
    "relative to exact's. Lower is better.",
    "threshold": "Fall of 2 log L that ends an interval: usually 1 (68.27 %) or 3.84 (95 %), here "
    "moved until coverage is honest.",
    "members": "In a table of errors: error of the gap from training sets, in points. In a table "
    "of costs: the number of members.",
    "datasets": "Error of the gap from datasets, in points.",
    "decides": "About how many more members or datasets would decide the verdict.",
    "holds up to": "The largest dataset, in multiples of M, at which the coverage still holds.",
    "gap": "Coverage minus that of exact on the same datasets.",
    "gap at worst": "The largest gap among the parameter values of a plan.",
    "joint": "All parameters together.",
    "region": "The joint 95 % region of all parameters.",
    "divergence": "Kullback–Leibler divergence of the surrogate's likelihood from the exact one. "
    "Both are normalised over the box.",
    "overlap": "Integral over the box of the smaller of two normalised likelihoods: 1 if they "
    "agree.",
    "LR error mean": "Mean absolute error of the log-likelihood ratio of neighbouring parameter "
    "values.",
    "LR error median": "Median of the same.",
    "95 % coverage": "Share of joint 95 % regions that contain θ.",
    "95 % area": "Area of joint 95 % regions, relative to exact's.",
    "BCE": "Binary cross-entropy of a classifier on held-out simulations, in nats.",
    "NLL": "Negative log-likelihood of held-out simulations, in nats.",
    "log E": "Logarithm of the mean ratio over the reference. It is 0 for a normalised ratio.",
    "score error": "Root mean square difference between slopes of the surrogate's log-likelihood "
    "and exact scores.",
    "score of the FAIR Universe challenge": "−ln((w + ε) f(c)), w the mean length and f the "
    "challenge's penalty of the coverage c. Higher is better.",
    "calls": "Simulator calls charged to one member.",
    "calls made": "Simulator calls actually made. Several members may share some.",
    "train s": "Seconds of training.",
    "to best s": "Seconds until the best epoch.",
    "parameters": "Trained numbers of a member.",
    "device": "Processor of the training.",
}


def term(heading: str, parameters: Collection[str] = ()) -> str:
    """Return the term of a heading, "" if there is none.

    Words of the term stand in the heading in their order. The term with most words is taken, not
    counting words that are also parameters.

    Args:
        heading: of a column, such as "gap mu at worst", or title of a table.
        parameters: names of parameters, which are no terms.

    Example:
        >>> term("gap mu at worst"), term("gap length", ["length"]), term("length", ["length"])
        ('gap at worst', 'gap', '')
    """
    words = heading.casefold().replace(",", "").split()

    def inside(name: str) -> bool:
        rest = iter(words)
        return heading not in parameters and all(word in rest for word in name.casefold().split())

    def worth(name: str) -> tuple[int, int]:
        own = name.split()
        return sum(word not in parameters for word in own), len(own)

    return max(filter(inside, TERMS), key=worth, default="")


def definition(heading: str, title: str, parameters: Collection[str] = ()) -> str:
    """Return the definition of a column by its heading, else by its table's title.

    Args:
        heading: of the column.
        title: of its table, which defines columns that are named by a parameter.
        parameters: names of parameters.
    """
    name = term(heading, parameters)
    if name in ("", "joint", "region"):
        name = term(title) or name
    return TERMS.get(name, f"{title}.")
