import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.common.utils.Exit;

/**
 * Kafka's own command-line tools, unchanged, one after the other in one process: most of what a tool needs is the time that a
 * JVM needs to start. A line of standard input is {"tool": CLASS, "arguments": [...], "input": TEXT}, one of standard output is
 * {"status": NUMBER, "output": TEXT, "errors": TEXT}.
 */
public class Tools {
    public static void main(String[] none) throws Exception {
        ObjectMapper mapper = new ObjectMapper();
        PrintStream answers = System.out;
        BufferedReader calls = new BufferedReader(new InputStreamReader(System.in));
        for (String line = calls.readLine(); line != null; line = calls.readLine()) {
            JsonNode call = mapper.readTree(line);
            List<String> arguments = new ArrayList<>();
            call.get("arguments").forEach(argument -> arguments.add(argument.asText()));
            Map<String, Object> answer = run(call.get("tool").asText(), arguments, call.get("input").asText());
            answers.println(mapper.writeValueAsString(answer));
        }
        System.setOut(answers);
        Exit.resetExitProcedure();
    }

    static Map<String, Object> run(String tool, List<String> arguments, String input) throws Exception {
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        ByteArrayOutputStream errors = new ByteArrayOutputStream();
        // A tool that catches what its own exit throws calls it once more: the first status is the one it wanted.
        AtomicReference<Integer> status = new AtomicReference<>();
        Exit.Procedure exit = (code, message) -> {
            status.compareAndSet(null, code);
            throw new Exited();
        };
        Exit.setExitProcedure(exit);
        Exit.setHaltProcedure(exit);
        System.setIn(new ByteArrayInputStream(input.getBytes()));
        System.setOut(new PrintStream(output, true));
        System.setErr(new PrintStream(errors, true));
        try {
            Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) arguments.toArray(new String[0]));
            status.compareAndSet(null, 0);
        } catch (InvocationTargetException thrown) {
            if (!(thrown.getCause() instanceof Exited)) {
                thrown.getCause().printStackTrace();
                status.compareAndSet(null, 1);
            }
        }
        return Map.of("status", status.get(), "output", output.toString(), "errors", errors.toString());
    }

    static class Exited extends Error {
        Exited() {
            super("the tool ended", null, false, false);
        }
    }
}
