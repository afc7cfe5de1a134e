"""Guard: a word here, its opposite there."""

from __future__ import annotations

from functools import lru_cache

from llmhost.cache.guards.negation import is_negated
from llmhost.cache.guards.order import are_swapped
from llmhost.cache.guards.stems import stem, stems, words
from llmhost.cache.guards.wording import Wording, likeness
from llmhost.cache.models import Objection

__all__ = ["DIRECTIONS", "NAME", "OPPOSITES", "PARTICLES", "PREFIXES", "guard"]


# Words that are each other's opposite, as they turn up in questions.


#: "one=other": each word on the left is opposed to each on the right.
_PAIRS = """
increase raise boost grow gain expand rise=decrease reduce lower shrink lose contract fall drop cut
maximize maximise increase raise=minimize minimise
improve=worsen lower; automatic automatically=manual manually; previous last=next; unused=overused
stiffen=soften; production=development; read=set
delete drop remove erase=rename select show view copy update edit count restart list; buy=refund return
difference=common alike; generate=delete; resolve=abort; average=maximum minimum; backup=restore
keep save=remove delete discard; hang=remove; open=block; delete=restore recover; fill=free
donor=recipient; exactly=approximately; success=error; granted=denied pending; bought=returned
earned=owed; rent=mortgage; accelerate=slow decelerate; strengthen=weaken; widen broaden=narrow
lengthen extend prolong=shorten abbreviate; inflate=deflate; heat warm=cool chill; freeze=thaw melt
lighten brighten=darken; lighter brighter=darker; tighten=loosen; thicken=thin dilute; harden=soften
sharpen=dull blunt; enlarge=shrink reduce; magnify=minify; deepen=shallow
enable activate=disable deactivate
allow permit accept approve=forbid prohibit ban deny reject block refuse disallow; lock=unlock
open=close shut; start begin launch initiate resume=stop end finish quit terminate pause halt suspend
connect attach join pair=disconnect detach leave separate sever; install=uninstall remove
mount=unmount eject; encrypt encode encipher=decrypt decode decipher
compress zip pack=decompress unzip unpack extract; push=pull pop; upload=download; import=export
insert add append include attach=delete remove subtract exclude detach
create make build=destroy delete break; show display reveal=hide conceal mask; expand=collapse
merge combine unite=split separate divide; upgrade=downgrade; encourage motivate=discourage demotivate
load=unload save; charge=discharge drain; follow=unfollow; subscribe=unsubscribe; block ban=unblock unban
mute=unmute; register=unregister deregister; bind tie=unbind untie; freeze=unfreeze; fold=unfold; do=undo
redo=undo; check=uncheck; commit=rollback revert; serialize serialise=deserialize deserialise
stage=unstage; pin=unpin; archive=unarchive; tag=untag; friend=unfriend; root=unroot; wrap=unwrap
cover=uncover; dress=undress; plug=unplug; buy purchase=sell; lend=borrow; give donate=take receive
send transmit=receive; pay spend=earn save receive; hire employ=fire; earn=lose spend; win=lose
succeed pass=fail; invest=divest; deposit=withdraw; credit=debit; profit=loss; asset=liability
employer=employee; landlord=tenant; lender=borrower; buyer=seller; teacher=student pupil; doctor=patient
parent=child; supply=demand; producer=consumer; predator=prey; host=guest parasite; attacker=defender
leader=follower; master=slave; client=server; frontend=backend; input=output; inbound=outbound
incoming=outgoing; inward=outward; ingress=egress; read=write; attack=defend; attacking=defending
love like=hate dislike; praise=criticize criticise blame; trust=distrust; accept=decline; agree=disagree
obey=disobey; appear=disappear vanish; arrive=depart leave; enter=exit leave; ascend climb=descend
ascending=descending; rise=set; sunrise=sunset; dawn=dusk; land=takeoff; push=pull; lift raise=lower
float=sink; wake=sleep; remember=forget; find=lose; hit=miss; build construct=demolish; plant=uproot
fill=empty drain; wet=dry; moisten=dry; live=die; bear=die; birth=death; born=died; marry=divorce
engaged=disengaged; attract=repel; absorb=emit release; inhale=exhale; evaporate=condense
dissolve=precipitate; oxidize=reduce; oxidation=reduction; melting=freezing; boiling=freezing
acid=base alkali; acidic=alkaline basic; positive=negative; plus=minus; addition=subtraction
multiply=divide; multiplication=division; differentiate=integrate; derivative=integral
numerator=denominator; odd=even
maximum max most highest largest biggest=minimum min least lowest smallest; more=less fewer
most=least fewest; much=little; high tall=low short; large big huge=small little tiny; long=short
wide broad=narrow; thick=thin; heavy=light lightweight; deep=shallow; fat=thin slim skinny
obese overweight=underweight; full=empty; strong=weak; hard=soft easy; difficult=easy simple
complex complicated=simple; fast quick rapid=slow; early=late; hot warm=cold cool; dry=wet humid
bright light=dark dim; loud noisy=quiet silent; clean=dirty; sharp=blunt dull; rich wealthy=poor
cheap inexpensive affordable=expensive; good=bad evil poor; positive=bad; healthy=unhealthy sick ill
safe=dangerous unsafe; happy=sad unhappy; beautiful pretty=ugly; smart intelligent clever=stupid dumb
young=old elderly; new=old; modern=ancient traditional; old=recent; fresh=stale rotten; raw=cooked
alive living=dead; awake=asleep; brave=cowardly; kind=cruel; polite=rude; generous=selfish stingy
honest=dishonest; lazy=hardworking; guilty=innocent; legal lawful=illegal unlawful; true=false
right correct=wrong incorrect; common=rare uncommon; popular=unpopular; famous=unknown; public=private
internal inner inside interior=external outer outside exterior; indoor=outdoor; indoors=outdoors
domestic=foreign international; local=global remote; national=international; urban=rural
natural organic=artificial synthetic; organic=inorganic; permanent=temporary; temporarily=permanently
static=dynamic; active=passive inactive; mutable=immutable; optional=mandatory required compulsory
voluntary=involuntary mandatory; single=multiple married double; singular=plural; single=dual
married=unmarried divorced; male=female; man=woman; boy=girl; husband=wife; father=mother; son=daughter
brother=sister; uncle=aunt; nephew=niece; king=queen; boyfriend=girlfriend; men=women; guy=girl
gentleman=lady; groom=bride; actor=actress; hero=villain; prince=princess; boys=girls; left=right
leftmost=rightmost; upper top=lower bottom; above over=below under beneath underneath; top=bottom
front=back rear; north northern=south southern; east eastern=west western; northeast=southwest
northwest=southeast; horizontal=vertical; horizontally=vertically
clockwise=counterclockwise anticlockwise; forward forwards=backward backwards reverse
upward upwards=downward downwards; upstream=downstream; uphill=downhill; upstairs=downstairs
before prior=after; previous=next; first=last; beginning start=end; earlier=later; past=future
past=present; ancestor=descendant; before=during; during=after; pre=post; predecessor=successor
yesterday=tomorrow; morning=evening; summer=winter; always=never; often frequently=rarely seldom
everything=nothing; everyone everybody=nobody; everywhere=nowhere; all=none; both=neither; any=none
include including=exclude excluding
advantage pro benefit strength merit upside=disadvantage con drawback weakness demerit downside risk
pros=cons; benefit=harm; benefits=dangers; beneficial helpful=harmful; useful=useless; hope=despair
optimist=pessimist; optimistic=pessimistic; introvert=extrovert; introverted=extroverted
liberal=conservative; democrat=republican; democratic=republican; capitalism=communism socialism
capitalist=communist socialist; left-wing=right-wing; ally=enemy; friend=enemy; war=peace; victory=defeat
success=failure; theory=practice; fact=opinion myth; strength=weakness; virtue=vice; heaven=hell
god=devil; majority=minority; quality=quantity; liquid=solid gas; cathode=anode; proton=electron
convex=concave; analog analogue=digital; hardware=software; wired=wireless; online=offline
synchronous=asynchronous; sync=async; serial=parallel; sequential=parallel random
compile=interpret decompile; assemble=disassemble; compiler=interpreter; encoder=decoder; sender=receiver
transmitter=receiver; source=target destination sink; local=remote; little-endian=big-endian
lossy=lossless; signed=unsigned; mutable=constant; row=column; rows=columns; width=height; length=width
breadth=length; latitude=longitude; diameter=radius; area=perimeter volume; sine=cosine
uppercase=lowercase; capital=lowercase; prefix=suffix; header=footer; superclass=subclass; stack=queue
front=back; newest latest=oldest earliest; oldest=youngest; nearest closest=farthest furthest
ripe=unripe overripe; fertile=infertile; sterile=fertile; vegetarian=carnivore meat; herbivore=carnivore
vegan=omnivore; mammal=reptile; plant=animal; sour=sweet; sweet=salty bitter savory; bland=spicy
salted=unsalted; constipation=diarrhea; hypertension=hypotension; systolic=diastolic; acute=chronic
benign=malignant; vein=artery; infection=immunity; arrive=leave; arrival=departure; arrivals=departures
entrance=exit; entry=exit; immigrate=emigrate; immigration=emigration; immigrant=emigrant; win=defeat
victim=criminal culprit perpetrator; plaintiff=defendant; prosecution=defense defence
offense offence=defense defence; bull=bear; bullish=bearish; surplus=deficit shortage
inflation=deflation recession; exports=imports; exporter=importer; revenue income=expense expenditure cost
gross=net; fixed=variable; simple=compound; appreciation=depreciation; appreciate=depreciate
debtor=creditor; wholesale=retail; premium=discount; ask=bid; sell=rent; rent=own buy; lease=buy
tight=loose; flexible=rigid; elastic=inelastic rigid; transparent=opaque; visible=invisible; sober=drunk
present=absent; arrogant=humble; confident=insecure shy; calm=angry anxious nervous; patient=impatient
formal=informal casual; literal=figurative; abstract=concrete; objective=subjective; absolute=relative
theoretical=practical experimental; major=minor; senior=junior; superior=inferior; expert=novice beginner
professional=amateur; beginner=advanced; primary=secondary; superset=subset; finite=infinite
rational=irrational; real=imaginary fake; genuine=fake counterfeit; original=copy fake; import=exported
deploy=undeploy; grant=revoke; promote=demote; promotion=demotion; appoint=dismiss; nominate=reject
elect=impeach; hurt=heal; hurt=help; help=hinder; protect=harm attack; damage=repair fix; fix=break
heal=injure; straight=curved curly; straighten=curl; smooth=rough; shiny=matte; gloss=matte; tan=whiten
dye=bleach; stretch=shrink; bulk=cut; sit=stand; stand=lie; walk=run; ascend=descend; inside=outside
into=out; onto=off; import=exporting; unlike=like; similarity similarities=difference differences
similar=different; same=different; compare=contrast; equal=unequal; equality=inequality; synonym=antonym
hire=resign; accept=resign; join=quit leave; apply=withdraw; laugh=cry; smile=frown; monarchy=republic
dictatorship=democracy; monologue=dialogue; fiction=nonfiction; protagonist=antagonist; comedy=tragedy
verse=prose; vowel=consonant; noun=verb; subject=object; active=passive; export=importing; freeze=heat
wax=wane; tide=ebb; ebb=flow; crest=trough; summit=base; peak=trough; equator=pole; arctic=antarctic
zenith=nadir; aphelion=perihelion; apogee=perigee; stalactite=stalagmite; dorsal=ventral
anterior=posterior; proximal=distal; flexion=extension; anabolic=catabolic; aerobic=anaerobic
mitosis=meiosis; prokaryotic=eukaryotic; endothermic=exothermic; deductive=inductive; deduction=induction
supervised=unsupervised; overfitting=underfitting; precision=recall; cation=anion; autotroph=heterotroph
diurnal=nocturnal; sunny=cloudy rainy; rainy=dry; warming=cooling; sow=harvest reap; hibernate=wake
inflow=outflow; shallow=steep; sink=swim
"""

#: Prefixes that turn a word into its opposite, or replace each other. "" is the bare word.
PREFIXES = (
    ("un", ""),
    ("dis", ""),
    ("non", ""),
    ("in", ""),
    ("im", ""),
    ("il", ""),
    ("ir", ""),
    ("de", ""),
    ("mis", ""),
    ("anti", ""),
    ("counter", ""),
    ("over", "under"),
    ("pre", "post"),
    ("inter", "intra"),
    ("hyper", "hypo"),
    ("macro", "micro"),
    ("up", "down"),
    ("in", "out"),
    ("in", "ex"),
    ("im", "ex"),
    ("pro", "anti"),
    ("maxi", "mini"),
    ("endo", "exo"),
    ("homo", "hetero"),
    ("mono", "poly"),
    ("uni", "multi"),
    ("single", "multi"),
    ("super", "sub"),
)
#: Opposite after one of these verbs: "turn on", "go up". Stems.
PARTICLES = {
    ("on", "off"): stems("turn switch put take power log get hop flip clock go keep"),
    ("in", "out"): stems(
        "log sign check zoom opt come go get walk move run let fade break breathe lock dial way"
    ),
    ("up", "down"): stems(
        "go scroll scale step move turn walk climb thumb ramp round spin roll page come size"
    ),
}
#: Opposite before the same thing: "to Rome" and "from Rome".
DIRECTIONS = {"to": "from", "from": "to", "for": "against", "against": "for"}


def _opposites() -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for row in filter(None, (row.strip() for row in _PAIRS.replace("\n", ";").split(";"))):
        left, _, right = row.partition("=")
        ones, others = ({stem(word) for word in side.split()} for side in (left, right))
        for one in ones:
            table.setdefault(one, set()).update(others - ones)
        for other in others:
            table.setdefault(other, set()).update(ones - others)
    return {word: frozenset(opposed) for word, opposed in table.items()}


#: The stems that a stem is opposed to.
OPPOSITES = _opposites()

NAME = "opposites"

#: letters; what is left of a shorter word without its prefix is chance ("in" and "inn")
_SHORTEST_ROOT = 3
#: likeness of the rest; in two texts with less in common the two words need not be about the same thing
_ALIKE = 0.6
#: Turn the word after them round.
_LESS = frozenset({"less", "least", "lesser", "fewer"})
_TURNED = DIRECTIONS | {one: other for pair in PARTICLES for one, other in (pair, pair[::-1])}
_VERBS = {word: verbs for pair, verbs in PARTICLES.items() for word in pair}
_ARTICLES = words("a an the my your this that")


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses when a word of one is opposed to a word of the other and neither text has both. Doubts where a
    negation or a changed order may make up for it: "Is A larger than B?", "Is B smaller than A?".
    """
    pair = _opposed(question, stored) or _prefixed(question, stored) or _directed(question, stored)
    if not pair:
        return None
    words = f"one says {pair[0]}, the other {pair[1]}"
    made_up = (
        is_negated(question) != is_negated(stored)
        or (_LESS.isdisjoint(pair) and _is_lessened(question) != _is_lessened(stored))
        or are_swapped(question, stored)
    )
    return Objection(NAME, words, refuses=not made_up and likeness(question, stored, without=2) >= _ALIKE)


def _is_lessened(wording: Wording) -> bool:
    return not _LESS.isdisjoint(wording.word_set)


def _opposed(question: Wording, stored: Wording) -> tuple[str, str] | None:
    ours, theirs = question.stem_set & OPPOSITES.keys(), stored.stem_set & OPPOSITES.keys()
    pairs = [
        (one, other)
        for one in ours
        for other in OPPOSITES[one] & theirs
        if _is_more(question, stored, one) and _is_more(stored, question, other)
    ]
    if not pairs:
        return None
    one, other = min(pairs, key=sorted)
    return question.word_of(one), stored.word_of(other)


def _is_more(here: Wording, there: Wording, word: str) -> bool:
    """Whether one text says the word more often than the other."""
    return here.stems.count(word) > there.stems.count(word)


def _prefixed(question: Wording, stored: Wording) -> tuple[str, str] | None:
    ours, theirs = sorted(question.word_set - stored.word_set), sorted(stored.word_set - question.word_set)
    for one in ours:
        if other := _counterpart(one, theirs):
            return one, other
    for other in theirs:
        if one := _counterpart(other, ours):
            return one, other
    return None


def _counterpart(word: str, others: list[str]) -> str:
    """The word of `others` that differs from `word` by an opposed prefix and its inflection, or ""."""
    for root, replaced in _roots(word):
        for other in others:
            bare = other.removeprefix(replaced)
            if other[0] == (replaced or root)[0] and other.startswith(replaced) and stem(bare) == root:
                return other
    return ""


#: words; as stems are kept
@lru_cache(maxsize=4096)
def _roots(word: str) -> tuple[tuple[str, str], ...]:
    """The stem of what is left without a prefix, with the prefix that would make its opposite."""
    return tuple(
        (stem(word[len(prefix) :]), replaced)
        for prefix, replaced in PREFIXES
        if word.startswith(prefix) and len(word) - len(prefix) >= _SHORTEST_ROOT
    )


def _directed(question: Wording, stored: Wording) -> tuple[str, str] | None:
    ours, theirs = _directions(question), _directions(stored)
    for thing, word in sorted(ours - theirs):
        other = _TURNED[word]
        if (thing, other) in theirs and (thing, other) not in ours:
            return word, other
    return None


@lru_cache(maxsize=128)
def _directions(wording: Wording) -> frozenset[tuple[str, str]]:
    """Each particle with the verb before it, each direction with the thing after it."""
    found = set()
    for place, word in enumerate(wording.words):
        if word in DIRECTIONS:
            found.add((_thing(wording.stems[place + 1 : place + 4]), word))
        elif place and word in _VERBS and wording.stems[place - 1] in _VERBS[word]:
            found.add((wording.stems[place - 1], word))
    return frozenset(found)


def _thing(stems: tuple[str, ...]) -> str:
    """The first word that is no article, with the number behind it."""
    words = [stem for stem in stems if stem not in _ARTICLES][:2]
    return " ".join(words if len(words) == 2 and words[1].isdecimal() else words[:1])
