"""Tables of question frames: the wordings of one aspect ask the same, those of two aspects do not.

`{x}` is a verb phrase, a thing or a person; `{a}` and `{b}` are two things in their roles.
"""

from __future__ import annotations

__all__ = [
    "COUNTRY_FRAMES",
    "PERSON_FRAMES",
    "ROLE_FRAMES",
    "SYMMETRIC_FRAMES",
    "THING_FRAMES",
    "TOO_NEAR",
    "VERB_FRAMES",
]


def _frames(table: str) -> dict[str, list[str]]:
    """`aspect: wording | wording`, an aspect a line; a line that starts with a blank goes on."""
    frames: dict[str, list[str]] = {}
    for line in table.replace("\n ", " ").strip().splitlines():
        aspect, _, wordings = line.partition(": ")
        frames[aspect] = [wording.strip() for wording in wordings.split(" | ")]
    return frames


#: `{x}` is a verb phrase in the base form: "learn Python".
VERB_FRAMES = _frames("""
how: How do I {x}? | How can I {x}? | How to {x}? | What is the best way to {x}? | What's the way to {x}?
 | Steps to {x}
 | {x}, how? | How do you {x}? | How does one {x}? | How should I {x}? | What should I do to {x}?
 | Ways to {x}
 | Tell me how to {x} | I want to {x}. How do I do it? | Can someone explain how to {x}?
 | how would I {x} | What are some ways to {x}?
why: Why should I {x}? | What are the reasons to {x}? | For what reason should I {x}? | Why {x}?
 | Reasons to {x} | Is there any good reason to {x}?
when: When should I {x}? | What is the best time to {x}? | When is the right time to {x}?
 | Best time to {x} | At what time is it best to {x}?
duration: How long does it take to {x}? | How much time does it take to {x}?
 | How much time do I need to {x}? | Time needed to {x}
 | How long would I need to {x}? | In how much time can I {x}?
cost: How much does it cost to {x}? | What does it cost to {x}? | How much money do I need to {x}?
 | What is the cost to {x}?
 | How expensive is it to {x}? | What would I pay to {x}?
legal: Is it legal to {x}? | Does the law allow me to {x}? | Am I legally allowed to {x}?
 | Is it lawful to {x}?
safe: Is it safe to {x}? | How safe is it to {x}? | Can I safely {x}? | Does it put me at risk to {x}?
 | Any danger if I {x}?
consequence: What happens if I {x}? | What will happen when I {x}? | What are the consequences if I {x}?
 | What would be the result if I {x}?
difficulty: How hard is it to {x}? | How difficult is it to {x}? | Is it hard to {x}?
 | Is it difficult to {x}?
who: Who can {x} for me? | Who could I hire to {x}? | Which professional can {x} for me?
not: How do I avoid having to {x}? | What can I do so that I don't have to {x}? | How to not have to {x}?
""")

#: `{x}` is a thing in the singular or without number.
THING_FRAMES = _frames("""
what: What is {x}? | What's {x}? | Explain {x} | Define {x} | {x} meaning | Explain {x} in simple terms
 | What does {x} mean?
 | Definition of {x} | Tell me what {x} is | What do people mean by {x}?
inventor: Who invented {x}? | Who was {x} invented by? | Who is the inventor of {x}? | Inventor of {x}
 | {x} was invented by whom?
cause: What causes {x}? | What are the causes of {x}? | Causes of {x} | What is {x} caused by?
 | What leads to {x}? | Reasons for {x}
effect: What are the effects of {x}? | Effects of {x} | What effects does {x} have? | What does {x} lead to?
side effect: What are the side effects of {x}? | Side effects of {x}
 | Does {x} have side effects, and which? | Unwanted effects of {x}
history: What is the history of {x}? | History of {x} | How did {x} come about?
 | What are the origins of {x}? | How did {x} start?
use: What is {x} used for? | Uses of {x} | What are the uses of {x}? | What can {x} be used for?
 | For what purposes is {x} used?
price: How much does {x} cost? | What is the price of {x}? | {x} price | What does {x} cost? | Cost of {x}
type: What are the types of {x}? | What kinds of {x} are there? | Types of {x} | Which kinds of {x} exist?
advantage: What are the advantages of {x}? | Benefits of {x} | Pros of {x}
 | What are the benefits of {x}? | What is good about {x}?
disadvantage: What are the disadvantages of {x}? | Drawbacks of {x} | Cons of {x}
 | What are the drawbacks of {x}? | What is bad about {x}?
example: What are some examples of {x}? | Examples of {x} | Give me examples of {x}
 | Can you name an example of {x}?
working: How does {x} work? | Explain how {x} works | The way {x} works
 | What is the working principle of {x}?
future: What is the future of {x}? | How will {x} develop in the future? | Future of {x}
 | What does the future hold for {x}?
alternative: What are alternatives to {x}? | Alternatives to {x} | What can I use instead of {x}?
 | What could replace {x}?
prevention: How can {x} be prevented? | How do we prevent {x}? | Prevention of {x}
 | What helps to prevent {x}?
measurement: How is {x} measured? | How do you measure {x}? | Measurement of {x}
 | In what way is {x} measured?
symbol: What is the symbol for {x}? | Symbol of {x} | Which sign stands for {x}?
""")

PERSON_FRAMES = _frames("""
who: Who is {x}? | Who's {x}? | Tell me who {x} is
age: How old is {x}? | What is the age of {x}? | {x} age | What age is {x}? | {x}, how old?
birthplace: Where was {x} born? | What is the birthplace of {x}? | In which place was {x} born?
 | {x} place of birth
birthday: When was {x} born? | What is the date of birth of {x}? | {x} birthday | On which day was {x} born?
height: How tall is {x}? | What is the height of {x}? | {x} height | What's {x}'s height?
wealth: How rich is {x}? | What is the net worth of {x}? | {x} net worth | How much money does {x} have?
fame: Why is {x} famous? | What is {x} known for? | For what is {x} famous? | What made {x} famous?
spouse: Who is {x} married to? | Who is the spouse of {x}? | {x} spouse
death: How did {x} die? | What was the cause of death of {x}? | {x} cause of death | What did {x} die of?
death day: When did {x} die? | In which year did {x} die? | {x} date of death
school: Where did {x} study? | Which university did {x} attend? | {x} education
home: Where does {x} live? | In which city does {x} live? | {x} place of residence
""")

COUNTRY_FRAMES = _frames("""
population: What is the population of {x}? | How many people live in {x}? | {x} population
 | How many inhabitants does {x} have?
capital: What is the capital of {x}? | {x} capital city | Which city is the capital of {x}?
area: How big is {x}? | What is the area of {x}? | {x} area in square kilometres | How large is {x}?
currency: What is the currency of {x}? | What money is used in {x}? | {x} currency
 | Which currency do they use in {x}?
language: What language is spoken in {x}? | Which language do people speak in {x}?
 | Official language of {x}
weather: What is the weather like in {x}? | How is the climate in {x}? | {x} weather
time: What time is it in {x}? | Current time in {x} | What is the local time in {x}?
visit: When is the best time to visit {x}? | Best season to travel to {x}
 | In which month should I go to {x}?
visa: Do I need a visa for {x}? | Is a visa required for {x}? | {x} visa requirement
cost: How expensive is it to live in {x}? | What is the cost of living in {x}? | {x} cost of living
food: What do people eat in {x}? | What is the typical food of {x}? | Traditional dishes of {x}
safety: How safe is {x}? | Is it safe to travel to {x}? | How dangerous is a trip to {x}?
leader: Who governs {x}? | Who is the head of government of {x}? | Who leads the government of {x}?
religion: What is the main religion of {x}? | Which religion do most people in {x} follow?
 | {x} main religion
""")

#: Pairs of aspects whose answers may well be the same: never made into a near miss.
TOO_NEAR = {
    frozenset(pair)
    for pair in (
        ("what", "working"),
        ("what", "use"),
        ("what", "example"),
        ("what", "type"),
        ("type", "example"),
        ("cause", "history"),
        ("effect", "side effect"),
        ("effect", "disadvantage"),
        ("effect", "advantage"),
        ("effect", "use"),
        ("side effect", "disadvantage"),
        ("use", "advantage"),
        ("safe", "consequence"),
        ("legal", "consequence"),
        ("how", "who"),
        ("how", "difficulty"),
        ("who", "fame"),
        ("history", "inventor"),
        ("visit", "weather"),
        ("safe", "legal"),
    )
}

#: `{a}` and `{b}` exchanged ask another thing; the wordings of a line ask the same.
ROLE_FRAMES = _frames("""
switch: How do I switch from {a} to {b}? | How can I change over to {b} from {a}?
 | Switching from {a} to {b} | Going to {b} from {a}: how?
move: Should I move from {a} to {b}? | Is it a good idea to move to {b} from {a}?
 | Is leaving {a} for {b} a good decision?
convert: How do I convert {a} to {b}? | How to turn {a} into {b}? | {a} to {b} conversion
 | How is {b} made from {a}? | Convert {a} into {b}
better: Is {a} better than {b}? | Is {b} worse than {a}? | Does {a} beat {b}?
price: Is {a} more expensive than {b}? | Is {b} cheaper than {a}? | Does {a} cost more than {b}?
older: Is {a} older than {b}? | Is {b} younger than {a}? | Did {a} exist before {b}?
bigger: Why is {a} bigger than {b}? | Why is {b} smaller than {a}? | What makes {a} larger than {b}?
cause: Does {a} cause {b}? | Is {b} caused by {a}? | Can {a} lead to {b}? | Can {b} be a result of {a}?
affect: How does {a} affect {b}? | How is {b} affected by {a}? | Effect of {a} on {b}
 | What influence does {a} have on {b}?
replace: Can {a} replace {b}? | Can {b} be replaced by {a}? | Is {a} a substitute for {b}?
 | Will {b} give way to {a}?
need: Do I need {a} before {b}? | Must {a} come first and {b} after it? | Is {a} a prerequisite for {b}?
part: Is {a} a part of {b}? | Does {b} include {a}? | Does {a} belong to {b}?
invent: Did {a} come from {b}? | Does {a} have its origin in {b}? | Did {b} give rise to {a}?
import: How do I import {a} into {b}? | How to get {a} imported into {b}? | Importing {a} into {b}
learn: Should I learn {a} before {b}? | Should I learn {b} after {a}?
 | Is it best to start with {a} and go on with {b}?
prefer: Why do people prefer {a} to {b}? | Why do people like {a} more than {b}?
 | Why is {b} less liked than {a}?
""")

#: `{a}` and `{b}` exchanged ask the same.
SYMMETRIC_FRAMES = _frames("""
difference: What is the difference between {a} and {b}? | How do {a} and {b} differ?
 | {a} vs {b} difference | How is {a} different from {b}?
similarity: What do {a} and {b} have in common? | What are the similarities between {a} and {b}?
 | How are {a} and {b} alike?
choice: Which is better, {a} or {b}? | {a} or {b}, which one is better? | {a} vs {b}: which is better?
relation: What is the relationship between {a} and {b}? | How are {a} and {b} related?
 | What links {a} and {b}?
distance: How far is {a} from {b}? | What is the distance between {a} and {b}? | Distance from {a} to {b}
together: Can {a} and {b} be used together? | Can I combine {a} with {b}? | Do {a} and {b} go together?
""")
