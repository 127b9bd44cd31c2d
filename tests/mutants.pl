#!/usr/bin/perl
# Breaks the headers in single places, one at a time, and shows whether a test
# notices: a comparison is turned, a maximum becomes a minimum, a statement is left
# out. Each mutant is compiled with the test file of its header alone (clang++ -O0)
# and under AddressSanitizer, in a directory of its own; the sources stay as they are.
#   tests/mutants.pl [--count 60] [--seed 1] [--only <regular expression>]
# Prints a line a mutant. The exit status is 1 if one survived: it may be the same
# program, which is for a person to say, or a test is missing.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Find qw(find);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Getopt::Long qw(GetOptions);

my ($count, $seed, $only) = (60, 1, '.');
GetOptions('count=i' => \$count, 'seed=i' => \$seed, 'only=s' => \$only) or exit 2;
chdir(dirname(abs_path($0)) . '/..') or die "$!";

# What is tested by a file that does not have its name.
my %elsewhere = (
  'pool/reports' => 'key_rotator',
  'pool/picks' => 'key_rotator',
  'pool/scope' => 'key_rotator',
  'pool/key_table' => 'key_rotator',
  'pool/access' => 'key_rotator',
  'pool/pool' => 'key_rotator',
  'openai/http_date' => 'openai/retry_after',
  'config/duration' => 'openai/duration',
);
my @operators = (
  [qr/ < /, ' <= '], [qr/ <= /, ' < '], [qr/ > /, ' >= '], [qr/ >= /, ' > '],
  [qr/ == /, ' != '], [qr/ != /, ' == '], [qr/ && /, ' || '], [qr/ \|\| /, ' && '],
  [qr/std::max\b/, 'std::min'], [qr/std::min\b/, 'std::max'],
  [qr/return true;/, 'return false;'], [qr/return false;/, 'return true;'],
  [qr/ \+ 1\b/, ' + 2'], [qr/ - 1\b/, ' - 2'], [qr/\+\+(?=\w)/, '--'], [qr/--(?=\w)/, '++'],
  # A call or an assignment in a line of its own.
  [qr/^\s+[a-z][\w.]*(?:\(.*\)| [-+*]?= [^{]*);$/, ''],
);

my @places;
find({no_chdir => 1, wanted => sub {
  return unless m{^include/keyrotator/(.+)\.h$};
  my $name = $1;
  my $test = $elsewhere{$name} // $name;
  return unless -e "tests/${test}_test.cc" && $name =~ /$only/;
  # Those that take a socket or minutes to compile.
  return if $test =~ m{^(?:openai/(?:client|make_client)|http/transport|testing/.*)$};
  open my $in, '<', $_ or die "$_: $!";
  my @lines = <$in>;
  for my $i (0 .. $#lines) {
    next if $lines[$i] =~ m{^\s*(?://|#|template|static_assert|namespace|using)|operator};
    for my $operator (@operators) {
      push @places, [$name, $test, $i, $operator] if $lines[$i] =~ $operator->[0];
    }
  }
}}, 'include/keyrotator');
# In an order that does not depend on the file system.
@places = sort { "$a->[0] $a->[2] $a->[3][0]" cmp "$b->[0] $b->[2] $b->[3][0]" } @places;

my $work = tempdir(CLEANUP => 1);
open my $main, '>', "$work/main.cc" or die "$!";
print $main "#define CATCH_CONFIG_MAIN\n#include \"tests/support/catch.h\"\n";
close $main;
my @compiler = qw(clang++ -std=c++20 -O0 -w -fsanitize=address,undefined
  -fno-sanitize-recover=all -D_GLIBCXX_ASSERTIONS -DKEYROTATOR_TEST_VECTORS="tests/openai/vectors");
system(@compiler, '-I.', '-c', "$work/main.cc", '-o', "$work/main.o") == 0 or exit 2;

srand($seed);
my ($survived, $built) = (0, 0);
for (1 .. $count) {
  last unless @places;
  my ($name, $test, $i, $operator) = @{splice(@places, int(rand(@places)), 1)};
  open my $in, '<', "include/keyrotator/$name.h" or die "$!";
  my @lines = <$in>;
  my $before = $lines[$i];
  $lines[$i] =~ s/$operator->[0]/$operator->[1]/;
  my $path = "$work/include/keyrotator/$name.h";
  make_path(dirname($path));
  open my $out, '>', $path or die "$!";
  print $out @lines;
  close $out;
  chomp($before, my $after = $lines[$i]);
  s/^\s+// for $before, $after;
  my $what = sprintf '%s.h:%d  %s  =>  %s', $name, $i + 1, $before, $after || '(left out)';
  my $failed = system(@compiler, "-I$work/include", qw(-I. -Iinclude), "tests/${test}_test.cc",
    "$work/main.o", '-o', "$work/test", qw(-lfmt -lsimdjson -lyaml-cpp -lcurl -lpthread -ldl),
    '-Wno-everything') != 0 ? 'does not compile' : undef;
  if (!$failed) {
    ++$built;
    my $status = system("timeout 60 $work/test >$work/output 2>&1");
    $failed = $status == 0 ? undef : ($status >> 8) == 124 ? 'noticed: it hangs' : 'noticed';
  }
  ++$survived unless $failed;
  printf "%-18s %s\n", $failed // 'SURVIVED', $what;
  STDOUT->flush();
  unlink $path;
}
print "$built built, $survived survived\n";
exit($survived > 0);
