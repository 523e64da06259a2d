// Copyright (c) the Deitos Cluster authors
// SPDX-License-Identifier: Apache-2.0

package deitos;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FsShell;

/**
 * The command of `hdfs dfs`, many times in one JVM: a line of standard input holds the arguments of
 * one, with tabs between them; what it prints, errors too, is followed by a line "rc=NUMBER".
 */
public class FsShellSession {
  public static void main(String[] arguments) throws Exception {
    PrintStream out = System.out;
    System.setErr(out);
    FsShell shell = new FsShell(new Configuration());
    BufferedReader lines =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      int result = shell.run(line.split("\t", -1));
      out.println("rc=" + result);
      out.flush();
    }
    shell.close();
  }
}
