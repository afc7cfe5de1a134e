"""Well-known names, by class. Who asks about one of a class does not ask about another of it.

Names are split by ";" or a line's end, the spellings of one by "=". A name in capitals counts only where it
is written with a capital: it is an ordinary word too.
"""

from __future__ import annotations

from functools import cache

__all__ = ["CITIES", "COUNTRIES", "REGIONS", "STATES", "Known", "known_names"]


# Countries with their people, states of federations, big cities, and parts of the world.


COUNTRIES = """
afghanistan=afghan; albania=albanian; algeria=algerian; argentina=argentinian=argentine; armenia=armenian
australia=australian=aussie; austria=austrian; azerbaijan; bahrain; bangladesh=bangladeshi
belarus=belarusian; belgium=belgian; bhutan; bolivia; bosnia; botswana; brazil=brazilian
bulgaria=bulgarian; burma=myanmar=burmese; cambodia=cambodian; cameroon; canada=canadian; CHAD
chile=chilean; china=chinese; colombia=colombian; congo; costa rica; croatia=croatian; cuba=cuban; cyprus
czech republic=czechia=czech; denmark=danish; ecuador; egypt=egyptian; estonia=estonian
ethiopia=ethiopian; finland=finnish; france=french; GEORGIA; germany=german; ghana; greece=greek
guatemala; haiti; hungary=hungarian; iceland=icelandic; india=indian; indonesia=indonesian
iran=iranian=persian; iraq=iraqi; ireland=irish; israel=israeli; italy=italian; ivory coast
jamaica=jamaican; japan=japanese; JORDAN=jordanian; kazakhstan; kenya=kenyan; kuwait; laos; latvia=latvian
lebanon=lebanese; libya=libyan; lithuania=lithuanian; luxembourg; madagascar; malaysia=malaysian; maldives
malta; mauritius; mexico=mexican; mongolia=mongolian; morocco=moroccan; namibia; nepal=nepali=nepalese
netherlands=holland=dutch; new zealand; nigeria=nigerian; north korea=north korean; norway=norwegian; oman
pakistan=pakistani; palestine=palestinian; panama; paraguay; peru=peruvian; philippines=filipino
poland=POLISH; portugal=portuguese; qatar=qatari; romania=romanian; russia=russian; rwanda
saudi arabia=saudi; scotland=scottish; senegal; serbia=serbian; singapore=singaporean; slovakia; slovenia
somalia; south africa=south african; south korea=korea=korean=south korean; soviet union=ussr=soviet
spain=spanish; sri lanka=sri lankan; sudan; sweden=swedish; switzerland=swiss; syria=syrian
taiwan=taiwanese; tanzania; thailand=thai; tibet=tibetan; tunisia; TURKEY=turkish; uganda
ukraine=ukrainian; united arab emirates=uae; united kingdom=uk=u k=britain=british=great britain; england
united states=united states of america=usa=u s=u s a=US=america=american; uruguay; uzbekistan
venezuela=venezuelan; vietnam=vietnamese; wales=welsh; yemen; zambia; zimbabwe
"""

STATES = """
alabama; alaska; arizona; arkansas; california; colorado; connecticut; delaware; florida; hawaii; idaho
illinois; indiana; iowa; kansas; kentucky; louisiana; maine; maryland; massachusetts; michigan; minnesota
mississippi; missouri; montana; nebraska; nevada; new hampshire; new jersey; new mexico; north carolina
north dakota; ohio; oklahoma; oregon; pennsylvania; rhode island; south carolina; south dakota; tennessee
texas; utah; vermont; virginia; west virginia; wisconsin; wyoming; kerala; tamil nadu; karnataka
maharashtra; gujarat; rajasthan; punjab; bihar; west bengal; uttar pradesh; madhya pradesh; odisha; assam
goa; haryana; telangana; andhra pradesh; kashmir; uttarakhand; himachal pradesh; sikkim; bavaria; ontario
quebec; alberta; british columbia; queensland; new south wales; tasmania
"""

CITIES = """
new york=new york city=nyc; los angeles; chicago; houston; PHOENIX; philadelphia; san antonio; san diego
dallas; san francisco; seattle; denver; boston; detroit; las vegas=vegas; miami; atlanta; portland; austin
nashville; baltimore; cleveland; pittsburgh; orlando; washington dc=washington d c; toronto; vancouver
montreal; calgary; ottawa; mexico city; havana; rio de janeiro=rio; sao paulo; buenos aires; lima; bogota
santiago; london; manchester; birmingham; liverpool; glasgow; edinburgh; dublin; paris; lyon; marseille
berlin; munich; hamburg; frankfurt; cologne; vienna; zurich; geneva; amsterdam; rotterdam; brussels
madrid; barcelona; lisbon; porto; rome; milan; venice; florence; naples; athens; istanbul; ankara; moscow
saint petersburg=st petersburg; kiev=kyiv; warsaw; krakow; prague; budapest; bucharest; sofia; belgrade
stockholm; oslo; copenhagen; helsinki; reykjavik; cairo; alexandria; nairobi; lagos; accra; johannesburg
cape town; casablanca; marrakesh; tunis; algiers; dubai; abu dhabi; doha; riyadh; tehran; baghdad
jerusalem; tel aviv; mumbai=bombay; delhi=new delhi; bangalore=bengaluru; hyderabad; chennai=madras
kolkata=calcutta; pune; ahmedabad; jaipur; lucknow; kochi; chandigarh; indore; noida; gurgaon=gurugram
karachi; lahore; islamabad; dhaka; colombo; kathmandu; bangkok; hanoi; ho chi minh city=saigon
kuala lumpur; jakarta; bali; manila; hong kong; shanghai; beijing; shenzhen; guangzhou; taipei; seoul
busan; tokyo; osaka; kyoto; sapporo; sydney; melbourne; brisbane; PERTH; adelaide; canberra; auckland
wellington
"""

REGIONS = """
europe=european; asia=asian; africa=african; south america; north america; oceania; antarctica
latin america; middle east
"""

_CLASSES = {
    "country": COUNTRIES,
    "state": STATES,
    "city": CITIES,
    "region": REGIONS,
    "language": """
        english; german; french; spanish=espanol; italian; portuguese; dutch; swedish; norwegian; danish
        finnish; POLISH; russian; ukrainian; czech; hungarian; romanian; greek; turkish; arabic; hebrew
        persian=farsi; hindi; urdu; bengali; tamil; telugu; marathi; gujarati; punjabi; malayalam; kannada
        sanskrit; nepali; sinhala; chinese; mandarin; cantonese; japanese; korean; vietnamese; thai
        indonesian; malay; tagalog=filipino; swahili; latin; esperanto; catalan; welsh; irish=gaelic
    """,
    "programming language": """
        python; javascript=js=java script; typescript; java; c++=cpp; c#=csharp=c sharp; golang=GO; RUST
        RUBY; php; perl; kotlin; SWIFT; scala; haskell; elixir; erlang; clojure; fortran; cobol; matlab
        JULIA; DART; lua; objective-c; vba; powershell; bash; R; pascal; prolog; lisp; f#; ocaml; sql
    """,
    "database": """
        mysql; postgresql=postgres; sqlite; mongodb=mongo; redis; cassandra; ORACLE; mariadb
        elasticsearch; dynamodb; sql server=mssql=ms sql; neo4j; db2
    """,
    "system": """
        windows; macos=mac=mac os=osx=os x; linux; android; ios; ubuntu; debian; fedora; centos
        red hat=rhel; arch linux; chrome os=chromeos; freebsd; kali linux
    """,
    "framework": """
        REACT=reactjs=react js=react native; angular=angularjs; vue=vuejs; svelte; django; flask
        rails=ruby on rails; laravel; spring boot; express=expressjs; next js=nextjs; node js=nodejs
        symfony; fastapi; jquery
    """,
    "library": """
        numpy; pandas; tensorflow; pytorch=torch; keras; scikit-learn=sklearn; matplotlib; opencv; scipy
    """,
    "editor": """
        vs code=vscode=visual studio code; sublime text; vim; emacs; intellij; pycharm; ATOM; notepad
        eclipse; android studio; xcode; jupyter
    """,
    "browser": """
        chrome=google chrome; firefox=mozilla; safari; edge browser=microsoft edge; opera browser
        internet explorer; brave browser
    """,
    "cloud": "aws=amazon web services; azure; gcp=google cloud; heroku; digitalocean; vercel; netlify",
    "tool": """
        docker; kubernetes=k8s; podman; vagrant; ansible; terraform; jenkins; git; svn=subversion
        mercurial; npm; yarn; pip; conda; maven; gradle
    """,
    "forge": "github; gitlab; bitbucket",
    "car maker": """
        toyota; honda; ford; bmw; mercedes=mercedes benz; audi; volkswagen=vw; tesla; hyundai; kia; nissan
        ferrari; lamborghini; porsche; volvo; mazda; subaru; chevrolet=chevy; jeep; lexus; maruti=suzuki
    """,
    "phone": """
        iphone; samsung; oneplus; xiaomi; huawei; nokia; motorola; oppo; vivo; blackberry; lenovo; htc
        pixel=google pixel
    """,
    "laptop": "dell; hp; asus; acer; macbook; thinkpad",
    "social network": """
        facebook=fb; twitter; instagram; snapchat; linkedin; pinterest; reddit; quora; tiktok; tumblr
        myspace; tinder
    """,
    "messenger": "whatsapp; telegram; wechat; viber; skype; zoom; slack; discord; microsoft teams",
    "stream": "netflix; hulu; disney plus; hbo; spotify; apple music; youtube; twitch; vimeo",
    "company": """
        google; microsoft; APPLE; AMAZON; flipkart; ibm; intel; amd; nvidia; cisco; adobe; salesforce
        uber; lyft; airbnb; paypal; ebay; walmart; ikea; alibaba; yahoo; infosys; tcs; wipro; accenture
        cognizant; deloitte; goldman sachs; mckinsey
    """,
    "office program": """
        excel=ms excel; powerpoint; microsoft word=ms word; outlook; google sheets; google docs; photoshop
        illustrator; lightroom; gimp; figma; canva
    """,
    "currency": """
        dollar; euro; yen; rupee; yuan=renminbi; bitcoin; ethereum; litecoin; dogecoin; peso; ruble
        swiss franc; pound sterling
    """,
    "planet": "MERCURY; VENUS; MARS; jupiter; saturn; uranus; neptune; pluto",
    "element": """
        hydrogen; helium; lithium; carbon; nitrogen; oxygen; sodium; magnesium; aluminium=aluminum
        silicon; sulfur=sulphur; chlorine; potassium; calcium; titanium; iron; cobalt; nickel; copper
        zinc; silver; gold; platinum; uranium; plutonium; mercury
    """,
    "religion": """
        christianity=christian; islam=muslim=islamic; hinduism=hindu; buddhism=buddhist
        judaism=jewish=jew; sikhism=sikh; jainism=jain; taoism
    """,
    "musical instrument": """
        guitar; piano; violin; drums=drum; flute; cello; trumpet; saxophone; ukulele; clarinet; harmonica
        keyboard
    """,
    "sport": """
        football=soccer; cricket; basketball; baseball; tennis; hockey; volleyball; rugby; golf; badminton
        boxing; swimming; chess
    """,
    "pet": """
        dog=puppy; cat=kitten; hamster; rabbit; parrot; horse; cow; goat; sheep; pig; goldfish; turtle
    """,
    "organ": """
        heart; liver; kidney; lung; brain; stomach; pancreas; spleen; bladder; thyroid; skin; colon
        prostate; uterus
    """,
    "disease": """
        diabetes; cancer; asthma; malaria; tuberculosis=tb; hiv=aids; dengue; pneumonia; influenza=flu
        covid=coronavirus; hepatitis; arthritis; epilepsy; leukemia; migraine; measles; chickenpox
        typhoid; cholera; ebola; alzheimer; parkinson; acne; eczema; psoriasis
    """,
    "drug": """
        paracetamol=acetaminophen=tylenol; ibuprofen=advil; aspirin; amoxicillin; metformin; insulin
        codeine; morphine; prozac; xanax; adderall; cocaine; heroin; marijuana=cannabis=weed; lsd; viagra
    """,
    "vitamin": "vitamin a; vitamin b; vitamin b12; vitamin c; vitamin d; vitamin e; vitamin k",
    "exam": """
        ias=upsc; ssc; gate exam; gre; gmat; toefl; ielts; sat exam; neet; jee; iit; aiims; clat; nda; cds
        ibps
    """,
    "degree": "mba; phd; mbbs; btech=b tech; mtech=m tech; bsc; msc; bca; mca; llb; bba",
    "file type": """
        pdf; docx; csv; xlsx; json; xml; yaml; html; jpg=jpeg; png; gif; svg; mp3; mp4; wav; flac; avi
        mkv; zip; rar; tar; exe; apk; iso
    """,
    "colour": "red; blue; green; yellow; purple; pink; black; white; brown; grey=gray",
    "fruit": """
        apples; banana; mango; grapes; strawberry; pineapple; watermelon; lemon; avocado; papaya
        pomegranate; blueberry; cherry; peach; pear
    """,
    "ingredient": """
        sugar; salt; butter; honey; rice; wheat; garlic; onion; tomato; potato; chicken; beef; pork; tofu
        egg; milk; cheese; yogurt; bread
    """,
    "drink": "coffee; tea; beer; wine; whiskey=whisky; vodka; rum; juice",
    "family member": """
        mother=mom=mum; father=dad; brother; sister; husband; wife; son; daughter; uncle; aunt
        grandmother=grandma; grandfather=grandpa; boyfriend; girlfriend
    """,
    "politician": """
        obama; trump; clinton=hillary; bush; biden; reagan; nixon; kennedy; lincoln; modi; gandhi; nehru
        kejriwal; putin; merkel; macron; trudeau; thatcher; churchill; hitler; stalin; lenin; mao
    """,
    "thinker": """
        einstein; newton; darwin; tesla inventor; edison; hawking; galileo; aristotle; plato; socrates
        kant; nietzsche; freud; marx; shakespeare; hemingway; tolstoy; dickens; austen
    """,
    "artist": """
        picasso; van gogh; da vinci; michelangelo; rembrandt; monet; beethoven; mozart; bach; chopin
    """,
    "ocean": "atlantic; pacific; indian ocean; arctic ocean",
    "king": "henry; napoleon; caesar; alexander; charlemagne; cleopatra",
    "protocol": "http; https; ftp; sftp; ssh; smtp; imap; pop3; tcp; udp; dns; dhcp",
    "zodiac": """
        aries; taurus; gemini; LEO; virgo; libra; scorpio; sagittarius; capricorn; aquarius; pisces
    """,
}

#: A class, the name that stands for all its spellings, and whether only a capital makes it one.
Known = tuple[str, str, bool]


@cache
def known_names() -> dict[str, list[tuple[tuple[str, ...], Known]]]:
    """Every spelling, as words in lower case, under its first word; the longest first. Built on first use."""
    table: dict[str, list[tuple[tuple[str, ...], Known]]] = {}
    for kind, rows in _CLASSES.items():
        for row in filter(str.strip, rows.replace("\n", ";").split(";")):
            spellings = [spelling.strip() for spelling in row.split("=")]
            for spelling in spellings:
                words = tuple(spelling.lower().replace("-", " ").split())
                known = (kind, spellings[0].lower(), spelling.isupper())
                table.setdefault(words[0], []).append((words, known))
    for spellings_of in table.values():
        spellings_of.sort(key=lambda entry: -len(entry[0]))
    return table
