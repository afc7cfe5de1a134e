"""Tables of words: opposites, words that say the same, short and long forms."""

from __future__ import annotations

__all__ = [
    "ACRONYMS",
    "ANTONYMS",
    "BRITISH",
    "CONTRACTIONS",
    "MORE_AND_LESS",
    "NEVER_OPPOSITE",
    "NUMBER_WORDS",
    "SYNONYMS",
    "VERB_ANTONYMS",
]


def _pairs(table: str) -> list[tuple[str, str]]:
    """`a/b c/d`, an underscore for a blank inside."""
    pairs = []
    for item in table.split():
        left, right = item.replace("_", " ").split("/")
        pairs.append((left, right))
    return pairs


#: Verbs of questions and their opposites, in the base form.
VERB_ANTONYMS = _pairs("""
accept/reject activate/deactivate add/remove admit/deny allow/forbid approve/reject arrive/depart
assemble/disassemble attach/detach attack/defend attract/repel block/unblock borrow/lend build/demolish
buy/sell charge/discharge close/open compress/decompress connect/disconnect create/destroy damage/repair
decode/encode decrease/increase decrypt/encrypt delete/restore deposit/withdraw disable/enable
discourage/encourage download/upload embed/extract enter/exit export/import fail/succeed fasten/loosen
fill/empty find/hide fold/unfold  forget/remember freeze/thaw gain/lose hate/love hire/fire
include/exclude inhale/exhale insert/remove install/uninstall join/leave land/launch lock/unlock lower/raise
lose/win maximise/minimise maximize/minimize merge/split mount/unmount mute/unmute pack/unpack pause/resume
praise/criticise prevent/cause promote/demote pull/push reduce/increase save/waste separate/combine
shorten/lengthen shrink/grow sink/float start/stop begin/end strengthen/weaken subscribe/unsubscribe
subtract/add support/oppose tighten/loosen trust/distrust turn_on/turn_off log_in/log_out sign_up/sign_off
wake/sleep widen/narrow zip/unzip zoom_in/zoom_out improve/worsen multiply/divide lengthen/shorten
spend/save send/receive teach/learn marry/divorce write/read
""")

#: Other words of questions and their opposites.
ANTONYMS = _pairs("""
above/below absence/presence advantage/disadvantage advantages/disadvantages after/before always/never
ancient/modern answers/questions arrival/departure ascending/descending attractive/unattractive
benefits/drawbacks best/worst big/small birth/death bottom/top boys/girls boy/girl brother/sister
brothers/sisters buyer/seller buyers/sellers ceiling/floor cheap/expensive cheapest/costliest child/adult
children/adults clockwise/anticlockwise cold/hot cons/pros customer/supplier daughter/son day/night
debit/credit decrease/increase deficit/surplus demand/supply dirty/clean downstairs/upstairs dry/wet
early/late employee/employer employees/employers enemy/friend enemies/friends entrance/exit expensive/cheap
export/import exports/imports external/internal extrovert/introvert extroverts/introverts fastest/slowest
father/mother female/male first/last foreign/domestic full/empty future/past good/bad happy/sad
happiest/saddest hardest/easiest hardware/software heaven/hell highest/lowest horizontal/vertical
hottest/coldest husband/wife illegal/legal indoor/outdoor inner/outer input/output inside/outside
junior/senior largest/smallest biggest/smallest liabilities/assets liberal/conservative loss/profit
love/hate lower/upper major/minor majority/minority man/woman married/single maximum/minimum max/min
men/women most/least negative/positive north/south northern/southern offline/online old/new oldest/youngest
optimist/pessimist parents/children peace/war permanent/temporary permanently/temporarily poor/rich
poorest/richest private/public prefix/suffix primary/secondary quickly/slowly rural/urban safest/riskiest
seller/buyer shallow/deep short/long shortest/longest similarities/differences similarity/difference
single/double slow/fast strengths/weaknesses strongest/weakest student/teacher students/teachers
success/failure summer/winter sunrise/sunset tall/short tallest/shortest toxic/harmless underrated/overrated
victory/defeat virtual/real weak/strong wealth/poverty west/east western/eastern young/old more/less
more/fewer inflation/deflation ugly/beautiful absolute/relative active/passive left_side/right_side
left_hand/right_hand short_term/long_term more_money/less_money light_skin/dark_skin weight_gain/weight_loss
analog/digital analogue/digital strict/lenient theoretical/practical voluntary/compulsory
qualified/unqualified reversible/irreversible wholesale/retail import/export
""")

#: WordNet calls these opposites; in questions they are not, or mean something else.
NEVER_OPPOSITE = set(
    """
    no yes all some back little better worse much common individual even odd fair cool close live found
    lost gross net known unknown right left other same off on present square round side top well ill
    here there down up equal differ leave arrive sit stand able unable ill front potential actual dead
    alive less more least many few true false far near high low specific general light heavy divided
    united recorded anti pro limited smart stupid past future long short
    """.split()  # noqa: SIM905 - a table reads better so
)

#: Comparatives and what says the same with the two sides exchanged.
MORE_AND_LESS = _pairs("""
better/worse bigger/smaller larger/smaller taller/shorter longer/shorter older/younger faster/slower
higher/lower stronger/weaker richer/poorer heavier/lighter harder/softer harder/easier
cheaper/more_expensive safer/more_dangerous hotter/colder warmer/cooler deeper/shallower thicker/thinner
wider/narrower louder/quieter brighter/darker smarter/more_stupid happier/unhappier simpler/more_complicated
more_popular/less_popular more_powerful/less_powerful more_important/less_important
more_difficult/less_difficult more_useful/less_useful more_effective/less_effective
more_reliable/less_reliable more_secure/less_secure more_accurate/less_accurate
more_efficient/less_efficient
""")

#: The right word may take the left one's place without changing the question (not always the other way).
SYNONYMS = _pairs("""
buy/purchase buying/purchasing start/begin starting/beginning fast/quick quickly/rapidly fastest/quickest
big/large bigger/larger biggest/largest movie/film movies/films phone/mobile_phone tv/television
fridge/refrigerator photo/picture photos/pictures kids/children kid/child mom/mother dad/father
doctor/physician lawyer/attorney car/automobile cars/automobiles salary/pay company/firm companies/firms
repair/fix repairing/fixing obtain/get choose/select select/pick assist/help help_me/assist_me
advantages/benefits disadvantages/drawbacks pros/advantages cons/disadvantages drawbacks/downsides
method/way methods/ways method/technique error/mistake errors/mistakes lose_weight/reduce_weight
earn_money/make_money increase_height/get_taller increase/raise decrease/reduce decrease/lower
improve/enhance university/college exam/examination exams/examinations maths/mathematics math/mathematics
app/application apps/applications ad/advertisement ads/advertisements website/site websites/sites
web_site/website internet/web email/e-mail laptop/notebook_computer smartphone/smart_phone bike/bicycle
gym/fitness_studio scared/afraid frightened/afraid rich/wealthy poor/impoverished smart/intelligent
stupid/dumb beautiful/pretty difficult/hard hardest/toughest easy/simple easiest/simplest
important/significant famous/well-known dangerous/risky unsafe/dangerous strange/weird wrong/incorrect
often/frequently seldom/rarely usually/normally approximately/about nearly/almost maybe/perhaps
someone/somebody anyone/anybody everyone/everybody nobody/no_one delete/erase remove/get_rid_of
remove/take_off download/save_to_my_device happen/occur happens/occurs happened/occurred needed/required
city/town nation/country nations/countries worldwide/in_the_whole_world earth/the_planet_earth teenager/teen
teenagers/teens girlfriend/partner elderly/old pupil/student pupils/students novice/beginner
novices/beginners salary/wage house/home apartment/flat soccer/football_(soccer) holiday/vacation
holidays/vacations lift/elevator petrol/gasoline pavement/sidewalk garbage/rubbish trousers/pants
cellphone/mobile_phone aeroplane/airplane plane/airplane planes/airplanes cancel/call_off postpone/put_off
discover/find_out solve/work_out tolerate/put_up_with explode/blow_up suicide/taking_one's_own_life
die/pass_away died/passed_away drunk/intoxicated currently/at_present
now/at_the_moment nowadays/these_days
""")

#: Short form and long form of one thing.
ACRONYMS = _pairs("""
AI/artificial_intelligence ML/machine_learning NLP/natural_language_processing USA/United_States
US/United_States UK/United_Kingdom UN/United_Nations EU/European_Union UAE/United_Arab_Emirates
GPS/global_positioning_system CPU/central_processing_unit GPU/graphics_processing_unit
RAM/random_access_memory ROM/read-only_memory HTTP/hypertext_transfer_protocol
HTML/hypertext_markup_language CSS/cascading_style_sheets SQL/structured_query_language
URL/uniform_resource_locator API/application_programming_interface OS/operating_system UI/user_interface
UX/user_experience VPN/virtual_private_network DNS/domain_name_system LAN/local_area_network
IoT/internet_of_things VR/virtual_reality AR/augmented_reality SEO/search_engine_optimization
CEO/chief_executive_officer CFO/chief_financial_officer CTO/chief_technology_officer HR/human_resources
PR/public_relations GDP/gross_domestic_product IPO/initial_public_offering VC/venture_capital
GST/goods_and_services_tax VAT/value_added_tax ATM/cash_machine PIN/personal_identification_number
IQ/intelligence_quotient DNA/deoxyribonucleic_acid RNA/ribonucleic_acid HIV/human_immunodeficiency_virus
ADHD/attention_deficit_hyperactivity_disorder OCD/obsessive_compulsive_disorder
PTSD/post-traumatic_stress_disorder UTI/urinary_tract_infection BMI/body_mass_index ICU/intensive_care_unit
MRI/magnetic_resonance_imaging ECG/electrocardiogram BP/blood_pressure STD/sexually_transmitted_disease
PhD/doctorate MBA/Master_of_Business_Administration BBA/Bachelor_of_Business_Administration
MCA/Master_of_Computer_Applications CS/computer_science IT/information_technology EE/electrical_engineering
ECE/electronics_and_communication_engineering IIT/Indian_Institute_of_Technology
IIM/Indian_Institute_of_Management MIT/Massachusetts_Institute_of_Technology
NIT/National_Institute_of_Technology CA/chartered_accountant CAT/Common_Admission_Test
IAS/Indian_Administrative_Service RBI/Reserve_Bank_of_India ISRO/Indian_Space_Research_Organisation
NASA/National_Aeronautics_and_Space_Administration WHO/World_Health_Organization
NATO/North_Atlantic_Treaty_Organization IMF/International_Monetary_Fund WW2/World_War_II WWII/World_War_2
WW1/World_War_I FBI/Federal_Bureau_of_Investigation CIA/Central_Intelligence_Agency NYC/New_York_City
NY/New_York LA/Los_Angeles SF/San_Francisco UCLA/University_of_California_Los_Angeles PM/prime_minister
CM/chief_minister BJP/Bharatiya_Janata_Party AAP/Aam_Aadmi_Party GOP/Republican_Party
NGO/non-governmental_organisation NRI/non-resident_Indian DIY/do_it_yourself FAQ/frequently_asked_questions
TV/television PC/personal_computer USB/universal_serial_bus SSD/solid_state_drive HDD/hard_disk_drive
LED/light-emitting_diode LCD/liquid_crystal_display SMS/text_message PDF/PDF_document JS/JavaScript
JSON/JavaScript_Object_Notation XML/extensible_markup_language OOP/object-oriented_programming
OOPS/object-oriented_programming IDE/integrated_development_environment SDK/software_development_kit
FB/Facebook YT/YouTube WoW/World_of_Warcraft GoT/Game_of_Thrones HP/Hewlett-Packard
LLC/limited_liability_company km/kilometres kg/kilograms cm/centimetres mm/millimetres lbs/pounds ft/feet
mph/miles_per_hour hrs/hours mins/minutes secs/seconds yrs/years govt/government yr/year CO2/carbon_dioxide
H2O/water NaCl/sodium_chloride R&D/research_and_development B2B/business_to_business
SUV/sport_utility_vehicle
""")

#: American and British spelling.
BRITISH = _pairs("""
color/colour colors/colours favorite/favourite center/centre theater/theatre behavior/behaviour labor/labour
neighbor/neighbour neighbors/neighbours flavor/flavour honor/honour humor/humour organization/organisation
organize/organise organizations/organisations realize/realise recognize/recognise analyze/analyse
apologize/apologise optimize/optimise memorize/memorise minimize/minimise maximize/maximise
customize/customise criticize/criticise demonetization/demonetisation globalization/globalisation
civilization/civilisation traveling/travelling canceled/cancelled cancelation/cancellation
modeling/modelling program/programme license/licence defense/defence gray/grey tire/tyre tires/tyres
jewelry/jewellery aluminum/aluminium mustache/moustache pajamas/pyjamas fulfill/fulfil enroll/enrol
skillful/skilful meter/metre meters/metres liter/litre liters/litres catalog/catalogue dialog/dialogue
plow/plough anemia/anaemia diarrhea/diarrhoea estrogen/oestrogen math/maths mom/mum airplane/aeroplane
""")

CONTRACTIONS = _pairs("""
don't/do_not doesn't/does_not didn't/did_not can't/cannot isn't/is_not aren't/are_not won't/will_not
wouldn't/would_not shouldn't/should_not couldn't/could_not haven't/have_not hasn't/has_not wasn't/was_not
what's/what_is who's/who_is where's/where_is how's/how_is it's/it_is I'm/I_am I've/I_have I'd/I_would
you're/you_are there's/there_is that's/that_is
""")

#: Each at its own value. Those who use it leave `one` alone: it is a person more often than a number.
NUMBER_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty
""".split()  # noqa: SIM905 - a table is read better so
