"""What may be asked of a thing: the forms of questions, and the words that name an aspect."""

from __future__ import annotations

from itertools import combinations

from llmhost.cache.guards.stems import stem

__all__ = ["APART", "ASPECT_OF", "FORMS", "IMPLIED", "OPENINGS"]

#: What people say before they ask.
OPENINGS = (
    r"^(?:(?:hi|hello|hey|please|so|ok|and|but|well|just|also|quick question|(?:can|could|would|will) you|"
    r"tell me|explain to me|i (?:want|need|would like) to know|do you know|does anyone know|help me|exactly|"
    r"in general|according to you|can (?:any|some)one|someone|anyone) )*"
)
_PERSON = "(?:i|we|you|one|someone|a person)"
#: Forms by their first words, tried in this order. A form that may mean several things is given none.
FORMS = (
    ("how_many", "how many|what is the (?:total )?number of|number of|what number of|count of"),
    ("how_long", "how long(?! is| are| was)|how much time|what is the duration"),
    ("how_far", "how far|what is the distance|distance"),
    ("how_old", "how old|what is the age|what age|at what age"),
    ("how_often", "how often|how frequently"),
    (
        "how_much",
        r"how much|what is the (?:cost|price|salary|fee|amount)|what does \w+ cost|price of|cost of",
    ),
    ("why", "why|what (?:is|are) the reasons?|for what reason|how come|reasons? (?:for|why)"),
    ("when", "when (?!i )|(?:(?:at|in|on) )?(?:what|which) (?:time|year|date|day|month|century)|since when"),
    ("where", "where |in (?:what|which) (?:country|city|place|state)|what is the location"),
    ("who", "who (?!else)|whom|(?:which|what) person|by whom"),
    (
        "definition",
        (
            r"what (?:is|are) (?:a |an |the )?(?:\w+ ){1,3}$|define |meaning of|definition of|"
            r"what does (?:\w+ ){1,4}mean|what do you mean by|what is meant by"
        ),
    ),
    (
        "method",
        (
            rf"how (?:do|can|should|could|would) {_PERSON}\b|how to|steps to|(?:best )?ways? to|"
            r"what is the (?:best|easiest|fastest|right|proper|correct) way|what are (?:\w+ ){1,2}ways"
        ),
    ),
    ("manner", "how (?:do|does|did|can|could|would|will|is|are|was|were) "),
    ("yes_or_no", "(?:is|are|was|were|do|does|did|can|could|will|would|should|has|have|had) "),
)
#: Forms whose answers cannot serve for each other ...
_UNLIKE = "how_many how_long how_far how_old how_often how_much why when where who method"
#: ... but for these, which often ask the same: "how much time", "who founded X and when".
_ALIKE = (
    "how_many how_much; how_many how_long; how_many how_far; how_many how_often; how_many how_old; "
    "how_long how_much; how_old when; how_long when; how_often when; where method; where who"
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
    table: dict[str, str] = {}
    for line in _ASPECTS.strip().splitlines():
        aspect, _, words = line.partition(":")
        table |= dict.fromkeys(map(stem, words.split()), aspect)
    return table


#: The aspect that a stem names.
ASPECT_OF = _aspects()
