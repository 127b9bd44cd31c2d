#!/usr/bin/env perl
# Says of each known mistake which tests show that it is not made here: the last
# column of tests/known_bugs.md, out of the tests' tags. The first two columns
# stand in the page alone. Fails if the page is not up to date, if a mistake has
# no test, or if a tag is not explained; with --write it brings the page up to
# date first.
#   tests/known_bugs.pl [--write]
use strict;
use warnings;
use File::Basename;

my $tests = dirname(__FILE__);
my $page = "$tests/known_bugs.md";

sub read_file {
  my ($path) = @_;
  open(my $file, '<', $path) or die "$path: $!\n";
  local $/;
  return scalar <$file>;
}

# By tag: the tests, in the order of their files.
my %tests;
my $string = qr/"(?:[^"\\]|\\.)*"/;
for my $path (sort glob("$tests/*.cc $tests/*/*.cc")) {
  my $name = substr($path, length($tests) + 1);
  my $text = read_file($path);
  # A name and tags, each of one or more strings.
  while ($text =~ /\b(?:TEMPLATE_)?TEST_CASE\(\s*((?:$string\s*)+),\s*((?:$string\s*)+)/g) {
    my ($title, $tags) = map { join('', /"((?:[^"\\]|\\.)*)"/g) } ($1, $2);
    $title =~ s/\\(.)/$1/g;
    $title =~ s/\|/\\|/g;
    push @{$tests{$_}}, "`$name`: $title" for $tags =~ /\[([SPT]\d+)\]/g;
  }
}

my $failed = 0;
my $old = read_file($page);
my $new = $old;
my %explained;
my $row = qr/^\| `\[([SPT]\d+)\]` \| ([^|]*) \|[^\n]*/m;
$new =~ s{$row}{
  my ($tag, $claim) = ($1, $2);
  $explained{$tag} = 1;
  if (!$tests{$tag}) {
    print STDERR "tests/known_bugs.md explains the tag [$tag], which no test has\n";
    $failed = 1;
  }
  "| `[$tag]` | $claim | " . join('<br>', @{$tests{$tag} // []}) . ' |';
}gem;
my $held = grep { $tests{$_} } keys %explained;
$new =~ s/^\d+ of \d+ have a test/"$held of " . keys(%explained) . ' have a test'/me;
for my $tag (sort keys %tests) {
  next if $explained{$tag};
  print STDERR "A test has the tag [$tag], which tests/known_bugs.md does not explain\n";
  $failed = 1;
}
if ($new ne $old) {
  if (@ARGV && $ARGV[0] eq '--write') {
    open(my $file, '>', $page) or die "$page: $!\n";
    print $file $new;
    close($file) or die "$page: $!\n";
  } else {
    print STDERR "tests/known_bugs.md is not up to date: tests/known_bugs.pl --write\n";
    $failed = 1;
  }
}
exit $failed;
