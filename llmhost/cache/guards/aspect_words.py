"""What may be asked of a thing: the forms of questions, and the words that name an aspect."""

from __future__ import annotations

from itertools import combinations

from llmhost.cache.guards.stems import stem

__all__ = ["APART", "ASPECT_OF", "FORMS", "IMPLIED", "OPENINGS"]

#: What people say before they ask.
OPENINGS = (
    r"^(?:(?:hi|hello|hey|please|so|ok|and|but|well|just|also|quick question|can you|could you|would you|will you|"
    r"tell me|explain to me|i want to know|i would like to know|i need to know|do you know|does anyone know|"
    r"help me|exactly|in general|according to you|can anyone|can someone|someone|anyone|please) )*"
)
#: Forms by their first words, tried in this order. A form that may mean several things is given none.
FORMS = (
    ("how_many", r"how many|what is the (?:total )?number of|number of|what number of|count of"),
    (
        "how_long",
        r"how long(?! is| are| was)|how much time|what is the duration|in how many (?:days|hours|years|months|minutes)",
    ),
    ("how_far", r"how far|what is the distance|distance"),
    ("how_old", r"how old|what is the age|what age|at what age"),
    ("how_often", r"how often|how frequently|how many times"),
    (
        "how_much",
        r"how much|what is the (?:cost|price|salary|fee|amount)|what does \w+ cost|price of|cost of",
    ),
    ("why", r"why|what is the reason|what are the reasons|for what reason|how come|reasons? (?:for|why)"),
    (
        "when",
        r"when (?!i )|what (?:time|year|date|day|month)|in (?:what|which) (?:year|month|century)|at what time|since when|on (?:what|which)",
    ),
    (
        "where",
        r"where (?:is|are|was|were|did|do|does|can|could|should|to|in)|in (?:what|which) (?:country|city|place|state)|what is the location",
    ),
    ("who", r"who (?!else)|whom|which person|what person|by whom|name the"),
    (
        "definition",
        r"what (?:is|are) (?:a |an |the )?(?:\w+ ){1,3}$|define |meaning of|definition of|what does (?:\w+ ){1,4}mean|what do you mean by|what is meant by",
    ),
    (
        "method",
        r"how (?:do|can|should|could|would) (?:i|we|you|one|someone|a person)\b|how to|what is the (?:best|easiest|fastest|right|proper|correct) way|"
        r"what are (?:some|the) (?:best |good |easy )?ways|steps to|ways to|best way to",
    ),
    ("manner", r"how (?:do|does|did|can|could|would|will|is|are|was|were) "),
    ("yes_or_no", r"(?:is|are|was|were|do|does|did|can|could|will|would|should|has|have|had) "),
)
#: Forms whose answers cannot serve for each other ...
_UNLIKE = "how_many how_long how_far how_old how_often how_much why when where who method"
#: ... but for these, which often ask the same: "how much time", "who founded X and when".
_ALIKE = (
    "how_many how_much; how_many how_long; how_many how_far; how_many how_often; how_many how_old; how_long how_much; "
    "how_old when; how_long when; how_often when; where method; where who"
)
_FURTHER = {
    "definition": "why when where how_many how_long how_old how_often method",
    "yes_or_no": "where who how_many how_old how_long how_far how_often how_much",
    "manner": "when where who how_many how_long how_old how_often how_much how_far",
}
APART = frozenset(map(frozenset, combinations(_UNLIKE.split(), 2))) - frozenset(
    frozenset(pair.split()) for pair in _ALIKE.split(";")
) | frozenset(frozenset((form, other)) for form, others in _FURTHER.items() for other in others.split())

#: Aspects that a form asks for without naming them.
IMPLIED = {
    "how_much": frozenset({"cost", "salary", "weight", "size"}),
    "why": frozenset({"causes"}),
    "when": frozenset({"history"}),
    "who": frozenset({"author", "director", "history"}),
    "how_many": frozenset({"population", "size"}),
    "method": frozenset({"cures", "prevention", "learning", "cooking", "cleaning", "repairing"}),
    "yes_or_no": frozenset({"risks", "benefits"}),
}

_ASPECTS = """
causes: cause causes caused causing
cures: cure cures cured curing treat treatment treatments remedy remedies
prevention: prevent prevents preventing prevention
symptoms: symptom symptoms sign signs
side effects: side-effects
cost: cost costs price prices pricing expensive cheap fee fees
salary: salary salaries wage wages
history: history origin origins invented inventor invention founded founder
examples: example examples
benefits: benefit benefits advantage advantages pros
risks: risk risks danger dangers dangerous disadvantage disadvantages cons harm harmful drawback drawbacks
learning: learn learning study studying
teaching: teach teaching
installing: install installing installation
uninstalling: uninstall uninstalling
configuring: configure configuring configuration
updating: update updating upgrade upgrading
repairing: repair repairing
deploying: deploy deploying deployment
cleaning: clean cleaning
cooking: cook cooking
storing: store storing storage
population: population populous
area: area
capital: capital
currency: currency
height: height tall
width: width wide
depth: depth deep
thickness: thickness thick
weight: weight weigh weighs
speed: speed
size: size
colour: color colour
taste: taste
temperature: temperature
author: author
director: director
review: review reviews
requirements: requirement requirements eligibility
alternatives: alternative alternatives
syllabus: syllabus
lyrics: lyrics
plot: plot
"""


def _aspects() -> dict[str, str]:
    table = {}
    for line in _ASPECTS.strip().splitlines():
        aspect, _, words = line.partition(":")
        table |= dict.fromkeys(map(stem, words.split()), aspect)
    return table


#: The aspect that a stem names.
ASPECT_OF = _aspects()
